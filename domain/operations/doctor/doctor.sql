-- name: server
select current_setting('server_version'), current_setting('server_version_num')::int,
    extract(epoch from clock_timestamp())::float8,
    (select count(*) from pg_stat_activity where backend_type = 'client backend'),
    current_setting('max_connections')::int

-- name: protected_tables
-- Every table that a trigger protects from changes, events in any case, and a column of each.
select c.relname::text, a.attname::text
from pg_class c
cross join lateral (
    select attname from pg_attribute
    where attrelid = c.oid and attnum > 0 and not attisdropped order by attnum limit 1
) a
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
    and (c.relname = 'events'
         or exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                    where t.tgrelid = c.oid and p.proname = 'refuse_change'))
order by 1

-- name: short_lock_timeout
set local lock_timeout = '1s'

-- name: triggers
-- tgenabled: O fires, A fires always, D is disabled, R fires on replicas only (pg_trigger).
select c.relname::text, t.tgname::text, t.tgenabled::text, pg_get_triggerdef(t.oid)
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
order by 1, 2

-- name: replication_role
select current_setting('session_replication_role')

-- name: functions
select p.proname::text, p.prosrc from pg_proc p
where p.pronamespace = 'public'::regnamespace and p.proname = any(%(names)s::text[])

-- name: rules
-- Rules rewrite statements before any trigger sees them.
select r.tablename::text, r.rulename::text from pg_rules r
where r.schemaname = 'public' and r.tablename = any(%(tables)s::text[])
order by 1, 2

-- name: shapes
-- What can hide, divert or lose events, whatever their triggers do.
select c.relname::text,
    c.relrowsecurity or exists (select from pg_policy p where p.polrelid = c.oid),
    exists (select from pg_inherits i where c.oid in (i.inhparent, i.inhrelid)),
    c.relpersistence <> 'p'
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relname = any(%(tables)s::text[])
order by 1

-- name: grants
-- Who besides the owner may change protected tables, or columns of them.
select c.relname::text, a.privilege_type,
    case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee)::text end
from pg_class c
cross join lateral (
    select (aclexplode(c.relacl)).*
    union all
    select (aclexplode(t.attacl)).* from pg_attribute t where t.attrelid = c.oid
) a
where c.relnamespace = 'public'::regnamespace and c.relname = any(%(tables)s::text[])
    and a.grantee <> c.relowner
    and a.privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
    and not (c.relname <> 'events' and a.privilege_type = 'INSERT'
             and a.grantee = 'qlp_app'::regrole)
union
-- Functions that write with their owner's rights must be for the application alone.
select 'function ' || p.oid::regprocedure, a.privilege_type,
    case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee)::text end
from pg_proc p
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace = 'public'::regnamespace and p.prosecdef
    and a.grantee not in (p.proowner, 'qlp_app'::regrole)
order by 1, 2, 3

-- name: try_append
select e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.tenant_id, e.command_id,
    e.recorded_at, e.metadata::text, e.data::text, e.digest,
    e.lane, e.lane_position, coalesce(b.chain_digest, %(start)s), e.chain_digest
from events e
left join events b on b.lane = e.lane and b.lane_position = e.lane_position - 1
where e.stream_id = %(stream_id)s

-- name: append_one
select append_one(%(stream_id)s, 'doctor', 0, gen_random_uuid(), '{"traceparent": "ü"}',
    gen_random_uuid(), 'Tried', 1::smallint, '{"a": 1.0 }')

-- name: append_commands
select append_commands('1s', jsonb_build_array(jsonb_build_object('stream_id', %(stream_id)s::text,
    'tenant_id', 'doctor', 'expected_version', 0, 'command_id', gen_random_uuid(),
    'metadata', '{"traceparent": "ü"}', 'events', jsonb_build_array(jsonb_build_object(
        'event_id', gen_random_uuid(), 'type', 'Tried', 'schema_version', 1,
        'data', '{"a": 1.0 }')))))

-- name: append_one_each
select append_one_each('1s', jsonb_build_array(jsonb_build_object('stream_id', %(stream_id)s::text,
    'tenant_id', 'doctor', 'expected_version', 0, 'command_id', gen_random_uuid(),
    'metadata', '{"traceparent": "ü"}', 'event_id', gen_random_uuid(), 'type', 'Tried',
    'schema_version', 1, 'data', '{"a": 1.0 }')))

-- name: insert_events
insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
    metadata, data)
values (gen_random_uuid(), %(stream_id)s, 1, 'Tried', 1, 'doctor', gen_random_uuid(), '{}',
    '{"a": 1.0 }')

-- name: insert_seals
insert into seals (seq, statement) values (9223372036854775807, %(stream_id)s)

-- name: insert_seal_heads
insert into seal_heads (lane, seq, lane_position, chain_digest)
values (0, 9223372036854775807, 9223372036854775807, %(digest)s)

-- name: insert_seal_keys
insert into seal_keys (key_id, public_key) values (%(stream_id)s, 'tried')

-- name: insert_range_seals
insert into range_seals (seq, from_transaction_id, from_position, to_transaction_id, to_position,
    events, positions, event_ids, stream_ids, versions, digests, sealed_at, previous_digest, digest)
values (9223372036854775807, '0', 0, '0', 0, 1, '{}', '{}', '{}', '{}', '{}', now(),
    sha256('tried'), %(digest)s)

-- name: accepted_import
select accepted_at from accepted_import

-- name: vector_version
select extversion from pg_extension where extname = 'vector'

-- name: invalid_indexes
select i.indexrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indexrelid
where not (i.indisvalid and i.indisready) and c.relnamespace = 'public'::regnamespace
order by 1

-- name: stalled
-- Intents that were last found waiting for their turn are counted separately.
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
select count(*), count(*) filter (where error like 'NewerEvent: %%') from parked_streams

-- name: held
select count(*) from rejected_messages where reason = any(%(reasons)s::text[])

-- name: recent_types
-- Only of the last events of each lane, as there is no index by type.
select r.type, r.schema_version, count(*)
from generate_series(0, 255) as l (lane)
cross join lateral (
    select type, schema_version from events
    where lane = l.lane::smallint order by lane_position desc limit %(per_lane)s
) r
group by r.type, r.schema_version
order by r.type, r.schema_version

-- name: unsealed
-- How long the oldest unsealed event has waited, seconds; null if there is none.
select extract(epoch from clock_timestamp() - min(e.recorded_at))::float8
from generate_series(0, 255) as l (lane)
left join lateral (
    select lane_position from seal_heads
    where lane = l.lane::smallint order by lane_position desc limit 1
) s on true
cross join lateral (
    select recorded_at from events
    where lane = l.lane::smallint and lane_position > coalesce(s.lane_position, 0)
    order by lane_position limit 1
) e

-- name: last_range_seal
select coalesce(max(seq), 0) from range_seals

-- name: anchored
-- The anchor with the newest seal, and how long it has not been given the next one, seconds.
select a.anchor, a.seq, case when a.seq < p.seq
    then extract(epoch from clock_timestamp() - a.kept_at)::float8 end
from seal_progress p
left join lateral (select * from seal_anchors order by seq desc limit 1) a on true
