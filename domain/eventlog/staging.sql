-- name: create
create temp table incoming (
    line bigint not null,
    event_id uuid not null,
    stream_id text collate "C" not null,
    version integer not null,
    type text not null,
    schema_version smallint not null,
    tenant_id text collate "C" not null,
    command_id uuid not null,
    recorded_at timestamptz not null,
    metadata text not null,
    data text not null,
    digest bytea not null
)

-- name: copy
copy incoming (line, event_id, stream_id, version, type, schema_version, tenant_id, command_id,
    recorded_at, metadata, data, digest) from stdin

-- name: index
create index on incoming (stream_id, version)

-- name: analyze
analyze incoming

-- name: drop
drop table if exists incoming

-- name: lock
-- One import at a time; taken before the transaction has an id.
select pg_advisory_xact_lock(hashtextextended('qlp import', 3))

-- name: not_json
select line, case when pg_input_is_valid(data, 'json') then 'metadata' else 'storeddata' end
from incoming
where not (pg_input_is_valid(data, 'json') and pg_input_is_valid(metadata, 'json'))
order by line
limit 1

-- name: repeated
-- The same event, or the same version of a stream, twice in the file.
select max(line), min(line), 'id' from incoming group by event_id having count(*) > 1
union all
select max(line), min(line), 'streamversion' from incoming
group by stream_id, version having count(*) > 1
order by 1
limit 1

-- name: clash
-- The log has another event at an event's place, or has the event at another place.
select i.line, i.stream_id, i.version, e.event_id, e.stream_id, e.version
from incoming i
join events e on e.stream_id = i.stream_id and e.version = i.version and e.digest <> i.digest
union all
select i.line, i.stream_id, i.version, e.event_id, e.stream_id, e.version
from incoming i
join events e on e.event_id = i.event_id
    and (e.stream_id <> i.stream_id or e.version <> i.version)
order by 1
limit 1

-- name: tenants
-- A stream whose events, with those in the log, do not all belong to one tenant.
select i.line, i.stream_id, i.tenant_id, f.tenant_id
from incoming i
cross join lateral (
    (select e.tenant_id from events e where e.stream_id = i.stream_id order by e.version limit 1)
    union all
    (select o.tenant_id from incoming o where o.stream_id = i.stream_id order by o.version limit 1)
    limit 1
) f
where f.tenant_id <> i.tenant_id
order by i.line
limit 1

-- name: gap
-- A stream whose new events do not continue the log's without a gap.
select s.line, s.stream_id, s.known + 1, s.first
from (
    select i.stream_id, min(i.line) as line, min(i.version) as first, max(i.version) as last,
        count(*) as count,
        (select coalesce(max(e.version), 0) from events e where e.stream_id = i.stream_id) as known
    from incoming i
    where not exists (select from events e
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
    from incoming
) i
where version <= before
order by line
limit 1

-- name: count
select count(*), count(distinct stream_id), count(*) filter (where known),
    count(distinct tenant_id)
from (
    select i.stream_id, i.tenant_id,
        exists (select from events e where e.stream_id = i.stream_id and e.version = i.version)
            as known
    from incoming i
) i

-- name: adopt
select adopt_log()

-- name: insert
-- Positions are assigned in the order of the rows, so the file's order becomes the log's.
insert into events (transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata, data)
select (pg_current_xact_id()::text::bigint + l.xid_offset)::text::xid8, i.event_id, i.stream_id,
    i.version, i.type, i.schema_version, i.tenant_id, i.command_id, i.recorded_at,
    i.metadata::json, i.data::json
from incoming i cross join log_identity l
where not exists (select from events e
                  where e.stream_id = i.stream_id and e.version = i.version)
order by i.line

-- name: late
-- A stream that was written to between this transaction's start and its insert: followers would
-- read it in the wrong order.
select i.stream_id
from incoming i
join events e on e.stream_id = i.stream_id and e.version = i.version - 1
join events n on n.stream_id = i.stream_id and n.version = i.version
where e.transaction_id > n.transaction_id
limit 1

-- name: altered
-- The digest that the database computed of what it stored differs from the file's.
select i.line, i.event_id
from incoming i join events e on e.event_id = i.event_id
where e.digest <> i.digest
order by i.line
limit 1

-- name: ensure_tenants
insert into tenants (id) select distinct tenant_id from incoming on conflict do nothing

-- name: streams
select e.position, e.transaction_id, e.event_id, e.stream_id, e.version, e.type, e.schema_version,
    e.tenant_id, e.command_id, e.recorded_at, e.metadata::text, e.data::text
from events e
where e.stream_id in (select i.stream_id from incoming i)
order by e.stream_id, e.version
