-- name: range
select position, transaction_id::text::bigint, event_id, stream_id, version, type, schema_version,
    tenant_id, command_id, recorded_at, metadata::text, data::text
from public.events
where (stream_id, version) > (%(stream_id)s::text, %(version)s::integer) and stream_id <= %(to)s::text
order by stream_id, version
limit %(limit)s::integer

-- name: of_streams
select position, transaction_id::text::bigint, event_id, stream_id, version, type, schema_version,
    tenant_id, command_id, recorded_at, metadata::text, data::text
from public.events
where stream_id = any(%(stream_ids)s)
order by stream_id, version
