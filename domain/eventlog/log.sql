-- name: read_stream
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text
from events
where stream_id = %(stream_id)s and version > %(after_version)s
order by version
limit %(limit)s

-- name: event
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text
from events
where event_id = %(event_id)s

-- name: read_all
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text
from events
where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
    and transaction_id < (select horizon from log_horizon)
order by transaction_id, position
limit %(limit)s

-- name: adopt_if_moved
-- Adopts the log if the server was restarted since the last check; true if it was.
select case when server_started = pg_postmaster_start_time() then false
    else adopt_log() is not null end
from log_identity

-- name: head
select transaction_id, position
from events
where transaction_id < (select horizon from log_horizon)
order by transaction_id desc, position desc
limit 1

-- name: writable
select current_setting('transaction_read_only') = 'off'

-- name: lag
select count(*), extract(epoch from clock_timestamp() - min(unread.recorded_at))::float8,
    (select extract(epoch from clock_timestamp() - min(recorded_at))::float8
     from events where transaction_id >= (select horizon from log_horizon))
from (
    select recorded_at
    from events
    where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
        and transaction_id < (select horizon from log_horizon)
    order by transaction_id, position
    limit %(limit)s
) unread

-- name: streams
select first.stream_id, first.tenant_id, last.version, first.recorded_at, last.recorded_at
from events first
cross join lateral (
    select version, recorded_at from events
    where stream_id = first.stream_id order by version desc limit 1
) last
where first.version = 1 and first.stream_id > %(after)s
order by first.stream_id
limit %(limit)s

-- name: streams_of_tenant
select first.stream_id, first.tenant_id, last.version, first.recorded_at, last.recorded_at
from events first
cross join lateral (
    select version, recorded_at from events
    where stream_id = first.stream_id order by version desc limit 1
) last
where first.version = 1 and first.tenant_id = %(tenant_id)s and first.stream_id > %(after)s
order by first.stream_id
limit %(limit)s
