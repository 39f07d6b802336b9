-- name: between
select e.*
from unnest(%(lanes)s::smallint[], %(after)s::bigint[], %(to)s::bigint[]) as l (lane, after, upto)
cross join lateral (
    select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
        metadata::text, data::text, digest
    from events
    where lane = l.lane and lane_position > l.after and lane_position <= l.upto
    order by lane_position
) e
where (%(tenant_id)s::text is null or e.tenant_id = %(tenant_id)s)
    and (%(types)s::text[] is null or e.type like any(%(types)s))

-- name: stream
select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
    metadata::text, data::text, digest
from events
where stream_id = %(stream_id)s and version > %(after_version)s
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and (%(types)s::text[] is null or type like any(%(types)s))
order by version
limit %(limit)s

-- name: stream_version
select coalesce(max(version), 0) from events where stream_id = %(stream_id)s
