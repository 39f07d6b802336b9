-- name: read_stream
select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
    metadata::text, data::text
from events
where stream_id = %(stream_id)s and version > %(after_version)s
order by version
limit %(limit)s

-- name: event
select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
    metadata::text, data::text
from events
where event_id = %(event_id)s

-- name: heads
select l.lane, h.lane_position
from generate_series(0, 255) as l (lane)
cross join lateral (
    select lane_position from events
    where lane = l.lane::smallint order by lane_position desc limit 1
) h

-- name: read_between
select e.*
from unnest(%(lanes)s::smallint[], %(after)s::bigint[], %(to)s::bigint[]) as l (lane, after, upto)
cross join lateral (
    select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
        metadata::text, data::text
    from events
    where lane = l.lane and lane_position > l.after and lane_position <= l.upto
    order by lane_position
) e

-- name: writable
select current_setting('transaction_read_only') = 'off'

-- name: streams
select first.stream_id, first.tenant_id, last.version, first.recorded_at, last.recorded_at
from events first
cross join lateral (
    select version, recorded_at from events
    where stream_id = first.stream_id order by version desc limit 1
) last
where first.version = 1 and first.stream_id > %(after)s
order by first.stream_id
limit %(limit)s

-- name: streams_of_tenant
select first.stream_id, first.tenant_id, last.version, first.recorded_at, last.recorded_at
from events first
cross join lateral (
    select version, recorded_at from events
    where stream_id = first.stream_id order by version desc limit 1
) last
where first.version = 1 and first.tenant_id = %(tenant_id)s and first.stream_id > %(after)s
order by first.stream_id
limit %(limit)s
