-- name: placed
select lane::integer, lane_position, chain_digest, event_id, stream_id, version, type,
    schema_version, tenant_id, command_id, recorded_at, metadata::text, data::text, digest
from events
where lane = %(lane)s::smallint and lane_position >= %(from)s::bigint
order by lane_position
offset %(seen)s
limit %(limit)s

-- name: nowhere
select lane::integer, lane_position, chain_digest, event_id, stream_id, version, type,
    schema_version, tenant_id, command_id, recorded_at, metadata::text, data::text, digest
from events
where lane is null or lane_position is null or lane not between 0 and 255
limit %(limit)s

-- name: read
-- How far each lane was read by whoever follows the log.
select (f.part * 16 + p.n - 1)::integer, max(p.position)
from followers f cross join lateral unnest(f.positions) with ordinality as p (position, n)
where p.position > 0 and f.part between 0 and 15 and p.n <= 16
group by 1

-- name: in_use
-- The lanes that have events, or had some when they were sealed.
select l.lane from generate_series(0, 255) as l (lane)
where exists (select from events where lane = l.lane::smallint)
    or exists (select from seal_heads where lane = l.lane::smallint)
