-- name: behind
-- Streams of intents with events in this part of the log that their rows do not include.
with moved as materialized ( -- matching the pattern costs most: once per stream, not per event
    select e.stream_id, max(e.version) as version
    from unnest(%(lanes)s::smallint[], %(after)s::bigint[], %(to)s::bigint[])
        as l (lane, after, upto)
    join public.events e
        on e.lane = l.lane and e.lane_position > l.after and e.lane_position <= l.upto
    group by e.stream_id
), logged as materialized (
    select * from moved
    where stream_id ~ '^intent-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
)
select logged.stream_id
from logged
left join intent_states s on s.id = substr(logged.stream_id, 8)::uuid
where coalesce(s.version, 0) < logged.version

-- name: wrong
-- Rows may be ahead of that place but never behind, and every row has a stream. Matching the
-- pattern costs most, so it comes after the comparison of versions.
with written as materialized (
    select e.stream_id, max(e.version) as version
    from unnest(%(heads)s::bigint[]) with ordinality as h (position, n)
    join public.events e on e.lane = h.n - 1 and e.lane_position <= h.position
    group by e.stream_id
)
select count(*)
from written w
full join (select 'intent-' || id as stream_id, version from intent_states) s using (stream_id)
where coalesce(s.version, 0) < coalesce(w.version, 0)
        and stream_id ~ '^intent-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        and not exists (select from parked_streams p
                        where p.projection = 'intent_states' and p.stream_id = w.stream_id)
    or w.version is null
        and not exists (select from public.events e where e.stream_id = s.stream_id)

-- name: copy
copy intent_states (id, tenant_id, version, status, user_input, text_sha256, language, created_at,
    updated_at, expected_by, completed_at, reused_from, details, outcome)
from stdin (format binary)

-- name: forget_copy
-- The row of an intent that could be folded before its last events came.
delete from intent_states where id = %(id)s

-- name: keep_live
insert into intent_states select * from public.intent_states where id = %(id)s
