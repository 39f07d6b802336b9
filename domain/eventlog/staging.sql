-- name: lock
-- One import at a time, for as long as its connection lives.
select pg_try_advisory_lock(hashtextextended('qlp import', 3))

-- name: clear
truncate import_events

-- name: copy
copy import_events (line, lane, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata, data, digest) from stdin

-- name: analyze
analyze import_events

-- name: not_json
select line, case when pg_input_is_valid(data, 'json') then 'metadata' else 'storeddata' end
from import_events
where not (pg_input_is_valid(data, 'json') and pg_input_is_valid(metadata, 'json'))
order by line
limit 1

-- name: repeated
-- The same event, or the same version of a stream, twice in the file.
select max(line), min(line), 'id' from import_events group by event_id having count(*) > 1
union all
select max(line), min(line), 'streamversion' from import_events
group by stream_id, version having count(*) > 1
order by 1
limit 1

-- name: clash
-- The log has another event at an event's place, or has the event at another place.
select i.line, i.stream_id, i.version, e.event_id, e.stream_id, e.version
from import_events i
join events e on e.stream_id = i.stream_id and e.version = i.version and e.digest <> i.digest
where %(streams)s::text[] is null or i.stream_id = any(%(streams)s)
union all
select i.line, i.stream_id, i.version, e.event_id, e.stream_id, e.version
from import_events i
join events e on e.event_id = i.event_id
    and (e.stream_id <> i.stream_id or e.version <> i.version)
where %(streams)s::text[] is null or i.stream_id = any(%(streams)s)
order by 1
limit 1

-- name: tenants
-- A stream whose events, with those in the log, do not all belong to one tenant. Materialized, since
-- PostgreSQL would go through all lines in their order, for the sake of the first one.
with wrong as materialized (
select i.line, i.stream_id, i.tenant_id, f.tenant_id as first
from import_events i
cross join lateral (
    (select e.tenant_id from events e where e.stream_id = i.stream_id order by e.version limit 1)
    union all
    (select o.tenant_id from import_events o
     where o.lane = i.lane and o.stream_id = i.stream_id order by o.version limit 1)
    limit 1
) f
where f.tenant_id <> i.tenant_id and (%(streams)s::text[] is null or i.stream_id = any(%(streams)s))
)
select * from wrong order by line limit 1

-- name: gap
-- A stream whose new events do not continue the log's without a gap.
select s.line, s.stream_id, s.known + 1, s.first
from (
    select i.stream_id, min(i.line) as line, min(i.version) as first, max(i.version) as last,
        count(*) as count,
        (select coalesce(max(e.version), 0) from events e where e.stream_id = i.stream_id) as known
    from import_events i
    where (%(streams)s::text[] is null or i.stream_id = any(%(streams)s))
        and not exists (select from events e
                        where e.stream_id = i.stream_id and e.version = i.version)
    group by i.stream_id
) s
where s.first <> s.known + 1 or s.last - s.first + 1 <> s.count
order by s.line
limit 1

-- name: order
-- A stream whose versions are not in order in the file.
select line, stream_id, version, before
from (
    select line, stream_id, version,
        lag(version) over (partition by stream_id order by line) as before
    from import_events
) i
where version <= before
order by line
limit 1

-- name: altered
-- The database makes another digest of an event than the file says: it stores it differently.
select line, event_id
from import_events
where digest <> event_digest(event_id, command_id, recorded_at, version, schema_version, stream_id,
    type, tenant_id, metadata::json, data::json)
order by line
limit 1

-- name: count
select count(*), count(distinct stream_id), count(*) filter (where known),
    count(distinct tenant_id),
    (select count(*) from (
        select from import_events group by stream_id having max(version) <> count(*)) partial)
from (
    select i.stream_id, i.tenant_id,
        exists (select from events e where e.stream_id = i.stream_id and e.version = i.version)
            as known
    from import_events i
) i

-- name: streams
-- Streams of the file, complete: what the log has of them, and what the file adds.
select e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.tenant_id, e.command_id,
    e.recorded_at, e.metadata::text, e.data::text
from events e
where e.stream_id in (select i.stream_id from import_events i)
union all
select i.event_id, i.stream_id, i.version, i.type, i.schema_version, i.tenant_id, i.command_id,
    i.recorded_at, i.metadata, i.data
from import_events i
where not exists (select from events e where e.stream_id = i.stream_id and e.version = i.version)
order by stream_id, version

-- name: some_streams
-- The same of some of them, which lie in one lane.
select e.event_id, e.stream_id, e.version, e.type, e.schema_version, e.tenant_id, e.command_id,
    e.recorded_at, e.metadata::text, e.data::text
from events e
where e.stream_id = any(%(streams)s)
union all
select i.event_id, i.stream_id, i.version, i.type, i.schema_version, i.tenant_id, i.command_id,
    i.recorded_at, i.metadata, i.data
from import_events i
where i.lane = %(lane)s and i.stream_id = any(%(streams)s)
    and not exists (select from events e where e.stream_id = i.stream_id and e.version = i.version)
order by stream_id, version

-- name: ensure_tenants
insert into tenants (id) select distinct tenant_id from import_events on conflict do nothing

-- name: heads
-- Where each lane ends now.
select l.lane, coalesce((select lane_position from events where lane = l.lane
    order by lane_position desc limit 1), 0)
from generate_series(0, 255) l (lane)

-- name: session
-- A process that stands still, or another session that holds a table, ends the import.
select set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('lock_timeout', '5s', false), set_config('timezone', 'UTC', false)

-- name: short
select set_config('statement_timeout', '700ms', true),
    set_config('idle_in_transaction_session_timeout', '1s', true)

-- name: hold_lanes
-- All lanes, not only the file's: an event's id may be taken in any of them.
select take_lanes(array(select generate_series(0, 255)::smallint))

-- name: touched
-- Streams of the file that were written to after those heads, or whose events' ids were taken.
with written as (
    select e.lane, e.stream_id, e.event_id
    from unnest(%(lanes)s::integer[], %(positions)s::bigint[]) h (lane, position)
    join events e on e.lane = h.lane and e.lane_position > h.position
)
select w.stream_id from written w
where exists (select from import_events i where i.lane = w.lane and i.stream_id = w.stream_id)
union
select i.stream_id from written w join import_events i on i.event_id = w.event_id

-- name: accept
insert into accepted_import default values

-- name: accepted
select accepted_at from accepted_import

-- name: finish
delete from accepted_import

-- name: lanes
-- The lanes with events to move, and how many.
select lane, count(*) from import_events group by lane order by lane

-- name: next
-- The next streams of a lane, with so many events in all; a longer one by itself.
select stream_id
from (
    select stream_id, sum(count(*)) over (order by stream_id) as events
    from import_events
    where lane = %(lane)s
    group by stream_id
) s
where events <= %(events)s or events = (
    select count(*) from import_events i where i.lane = %(lane)s and i.stream_id = s.stream_id)
order by stream_id

-- name: lock_lane
select set_config('qlp.importing', 'yes', true), take_lanes(array[%(lane)s::smallint])

-- name: insert
insert into events (event_id, stream_id, version, type, schema_version, tenant_id, command_id,
    recorded_at, metadata, data)
select i.event_id, i.stream_id, i.version, i.type, i.schema_version, i.tenant_id, i.command_id,
    i.recorded_at, i.metadata::json, i.data::json
from import_events i
where i.lane = %(lane)s and i.stream_id = any(%(streams)s)
    and not exists (select from events e
                    where e.stream_id = i.stream_id and e.version = i.version)
order by i.line

-- name: done
delete from import_events where lane = %(lane)s and stream_id = any(%(streams)s)
