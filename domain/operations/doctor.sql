-- name: server
select current_setting('server_version'), current_setting('server_version_num')::int,
    extract(epoch from clock_timestamp())::float8,
    (select count(*) from pg_stat_activity where backend_type = 'client backend'),
    current_setting('max_connections')::int

-- name: protected_tables
-- Every table that a trigger keeps from changing, events in any case, and a column of each.
select c.relname::text, a.attname::text
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum = 1
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
    and (c.relname = 'events'
         or exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                    where t.tgrelid = c.oid and p.proname = 'refuse_change'))
order by 1

-- name: short_lock_timeout
set local lock_timeout = '1s'

-- name: triggers
-- tgenabled: O fires, A fires always, D is disabled, R fires on replicas only (pg_trigger).
select c.relname::text, t.tgname::text, t.tgenabled::text
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
order by 1, 2

-- name: vector_version
select extversion from pg_extension where extname = 'vector'

-- name: invalid_indexes
select i.indexrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indexrelid
where not (i.indisvalid and i.indisready) and c.relnamespace = 'public'::regnamespace
order by 1

-- name: horizon_holders
-- Whoever has a transaction id holds the horizon, in any database of the server. Times of other
-- roles' sessions are hidden from a role without pg_read_all_stats.
select pid, datname::text, usename::text, application_name, state,
    extract(epoch from clock_timestamp() - xact_start)::float8
from pg_stat_activity
where backend_xid is not null and pid <> pg_backend_pid()
order by age(backend_xid) desc
limit 5

-- name: prepared
select gid, database::text, owner::text,
    extract(epoch from clock_timestamp() - prepared)::float8
from pg_prepared_xacts
order by prepared
limit 5

-- name: stalled
-- What was last found waiting for its turn is counted by itself.
select count(*) filter (where not waits),
    coalesce(extract(epoch from now() - min(expected_by) filter (where not waits))::float8, 0),
    count(*) filter (where waits)
from (
    select s.expected_by, coalesce(r.version = s.version and r.attempts = 0, false) as waits
    from intent_states s
    left join intent_recovery r on r.intent_id = s.id
    where s.expected_by < now() - make_interval(secs => %(after)s)
) overdue

-- name: rejected
select count(*), count(*) filter (where last_seen_at > now() - interval '1 day')
from rejected_messages

-- name: parked
select count(*) from parked_streams

-- name: unsealed
-- How long the oldest readable event has waited for its seal, seconds; no row where all are sealed.
select extract(epoch from clock_timestamp() - recorded_at)::float8
from events
where (transaction_id, position) > (
        coalesce((select to_transaction_id from seals order by seq desc limit 1), '0'::xid8),
        coalesce((select to_position from seals order by seq desc limit 1), 0))
    and transaction_id < (select horizon from log_horizon)
order by transaction_id, position
limit 1
