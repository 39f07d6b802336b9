-- name: streams
select stream_id from events
where stream_id > %(after)s and version = 1
order by stream_id
limit %(limit)s

-- name: sampled_streams
-- Streams that begin on a random share of the table's pages. Picking random ids is not possible:
-- ids are ordered by time, so a random one would hit nothing.
select stream_id
from events tablesample system (%(percent)s)
where version = 1 and stream_id like 'intent-%%'
order by random()
limit %(sample)s

-- name: rows
select id, tenant_id, version, status, user_input, text_sha256, language, created_at, updated_at,
    expected_by, completed_at, reused_from, details, outcome
from intent_states
where id = any(%(ids)s)

-- name: rows_between
select id, tenant_id, version, status, user_input, text_sha256, language, created_at, updated_at,
    expected_by, completed_at, reused_from, details, outcome
from intent_states
where (%(after)s::uuid is null or id > %(after)s) and (%(to)s::uuid is null or id <= %(to)s)

-- name: share_of_pages
-- The share of pages, in percent, with so many times the sample's events, by the estimated total.
select least(100, 100.0 * %(spread)s * %(sample)s / greatest(reltuples, 1))::float
from pg_class where oid = 'events'::regclass

-- name: one_snapshot
set transaction isolation level repeatable read, read only

-- name: fresh_table
create temporary table {table} (like public.{table} including all)

-- name: ahead
-- Streams that were resumed, and include events beyond where the projection is.
select live.stream_id, live.version, coalesce(fresh.version, 0)
from public.{table} live left join pg_temp.{table} fresh using (stream_id)
where live.version > coalesce(fresh.version, 0)

-- name: parked_here
-- Streams that the fresh fold parked, and those of them that the live tables include further,
-- because a release that could read the event processed them.
select count(*),
    count(*) filter (where p.error like 'NewerEvent: %' and live.version >= p.from_version)
from pg_temp.parked_streams p left join public.{streams} live using (stream_id)

-- name: differing
select false as is_live, to_jsonb(fresh) from (
    select * from pg_temp.{table} except all select * from public.{table}
) fresh
union all
select true, to_jsonb(live) from (
    select * from public.{table} except all select * from pg_temp.{table}
) live
limit %(limit)s

-- name: key
select a.attname
from pg_index i
cross join unnest(i.indkey) with ordinality as k (number, n)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
where i.indisprimary and i.indrelid = %(table)s::text::regclass
order by k.n

-- name: rows_of
select count(*) from public.{table}

-- name: stop_runners
-- Waits for those that are at work, however long.
select pg_advisory_lock(hashtextextended(%(follower)s, 2))

-- name: no_time_limit
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)
