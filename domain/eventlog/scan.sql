-- name: boundary
-- The end of a part of the log with so many events, before filtering.
select transaction_id, position
from (
    select transaction_id, position
    from events
    where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
        and transaction_id < (select horizon from log_horizon)
    order by transaction_id, position
    limit %(limit)s
) part
order by transaction_id desc, position desc
limit 1

-- name: part
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text, digest
from events
where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
    and (transaction_id, position) <= (%(to_transaction_id)s::xid8, %(to_position)s::bigint)
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and (%(types)s::text[] is null or type like any(%(types)s))
order by transaction_id, position

-- name: stream
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text, digest
from events
where stream_id = %(stream_id)s and version > %(after_version)s
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and (%(types)s::text[] is null or type like any(%(types)s))
order by version
limit %(limit)s

-- name: stream_version
select coalesce(max(version), 0) from events where stream_id = %(stream_id)s
