-- name: placed
-- From below every place that there can be, since somebody may have put an event there.
select lane::integer, lane_position, event_id, position, stream_id, version, digest, chain_digest
from events
where (lane, lane_position) >= (%(lane)s::integer, %(lane_position)s::bigint)
    and lane_position is not null
order by lane, lane_position
offset %(seen)s
limit %(limit)s

-- name: nowhere
select lane::integer, lane_position, event_id, position, stream_id, version, digest, chain_digest
from events
where lane is null or lane_position is null
limit %(limit)s
