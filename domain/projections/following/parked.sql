-- name: list
select projection, stream_id, from_version, event_id, error, parked_at
from parked_streams
where projection = coalesce(%(projection)s, projection)
order by parked_at, projection, stream_id
limit %(limit)s

-- name: get
select projection, stream_id, from_version, event_id, error, parked_at
from parked_streams
where projection = %(projection)s and stream_id = %(stream_id)s

-- name: newer
-- Streams that were parked at an event that only a later release could read.
select p.stream_id, e.type, e.schema_version
from parked_streams p join events e using (event_id)
where p.projection = %(projection)s and p.error like 'NewerEvent: %%'
order by p.stream_id

-- name: park
insert into parked_streams (projection, stream_id, from_version, event_id, error)
values (%(projection)s, %(stream_id)s, %(from_version)s, %(event_id)s, %(error)s)
on conflict (projection, stream_id) do update
set from_version = excluded.from_version,
    event_id = excluded.event_id,
    error = excluded.error,
    parked_at = now()

-- name: unpark
delete from parked_streams where projection = %(projection)s and stream_id = %(stream_id)s

-- name: counts
select projection, count(*) from parked_streams group by projection

-- name: built_by
select version from projections where name = %(name)s
