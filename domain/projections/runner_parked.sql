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

-- name: unpark
delete from parked_streams where projection = %(projection)s and stream_id = %(stream_id)s

-- name: counts
select projection, count(*) from parked_streams group by projection

-- name: built_by
select version from projections where name = %(name)s
