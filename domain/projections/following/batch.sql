-- name: marks
select stream_id, version, started_at from {streams} where stream_id = any(%(stream_ids)s)

-- name: mark
insert into {streams} (stream_id, version, started_at)
select * from unnest(%(stream_ids)s::text[], %(versions)s::integer[], %(started)s::timestamptz[])
on conflict (stream_id) do update set version = excluded.version

-- name: parked
select stream_id from parked_streams
where projection = %(projection)s and stream_id = any(%(stream_ids)s)
