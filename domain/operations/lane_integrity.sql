-- name: trusted
-- The last event of each lane up to a checkpoint.
select distinct on (lane) lane, lane_position, chain_digest
from events
where (transaction_id, position) <= (%(transaction_id)s::xid8, %(position)s::bigint)
order by lane, lane_position desc

-- name: placed
select e.lane, e.lane_position, e.event_id, e.position, e.stream_id, e.version, e.digest,
    e.chain_digest
from events e
left join unnest(%(lanes)s::smallint[], %(positions)s::bigint[]) as trusted (lane, position)
    on trusted.lane = e.lane
where (e.lane, e.lane_position) > (%(lane)s::smallint, %(lane_position)s::bigint)
    and e.lane_position > coalesce(trusted.position, 0)
order by e.lane, e.lane_position
limit %(limit)s
