-- name: event
select e.lane::integer, e.lane_position, b.chain_digest, e.event_id, e.stream_id, e.version,
    e.type, e.schema_version, e.tenant_id, e.command_id, e.recorded_at, e.metadata::text,
    e.data::text, e.digest
from events e
left join events b on b.lane = e.lane and b.lane_position = e.lane_position - 1
where e.event_id = %(event_id)s

-- name: following
select digest from events
where lane = %(lane)s::smallint and lane_position > %(after)s and lane_position <= %(to)s
order by lane_position
