-- name: range
select stream_id, version, event_id, type, schema_version, data::text
from public.events
where (stream_id, version) > (%(stream_id)s::text, %(version)s::integer) and stream_id <= %(to)s::text
order by stream_id, version
limit %(limit)s::integer

-- name: of_streams
select stream_id, version, event_id, type, schema_version, data::text
from public.events
where stream_id = any(%(stream_ids)s)
order by stream_id, version
