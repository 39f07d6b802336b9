-- name: begin
insert into followers (follower, part)
select %(follower)s, part from generate_series(0, 15) as part
on conflict do nothing

-- name: claim
-- Takes parts that nobody holds and that have events to read, and reads some of these: of every lane
-- the next ones. Lanes come in a random order, so that a long one cannot keep others waiting. A time
-- that lies too far ahead was set before the clock was turned back.
with free as (
    select f.part
    from followers f
    where f.follower = %(follower)s and f.part = any(%(parts)s::smallint[])
        and (f.holder is null or f.held_until not between clock_timestamp()
            and clock_timestamp() + make_interval(secs => %(seconds)s))
        and exists (
            select from unnest(f.positions) with ordinality as p (position, n)
            where exists (
                select from events e
                where e.lane = (f.part * 16 + p.n - 1)::smallint and e.lane_position > p.position))
    order by random()
    limit %(most_parts)s
    for update skip locked
), claimed as (
    update followers f
    set holder = %(holder)s, held_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    from free
    where f.follower = %(follower)s and f.part = free.part
    returning f.part, f.positions
), lanes as (
    select (c.part * 16 + p.n - 1)::smallint as lane, p.position
    from claimed c cross join lateral unnest(c.positions) with ordinality as p (position, n)
    order by random()
), next as (
    select e.*
    from lanes l
    cross join lateral (
        select position, transaction_id, event_id, stream_id, version, type, schema_version,
            tenant_id, command_id, recorded_at, metadata::text, data::text, lane_position, lane
        from events e
        where e.lane = l.lane and e.lane_position > l.position
        order by e.lane_position
        limit %(per_lane)s
    ) e
    limit %(most_events)s
)
select c.part, n.*
from claimed c left join next n on n.lane / 16 = c.part
order by n.lane, n.lane_position

-- name: renew
update followers set held_until = clock_timestamp() + make_interval(secs => %(seconds)s)
where follower = %(follower)s and holder = %(holder)s

-- name: save
-- Moves the given lanes and gives the parts back, but only for who still holds them.
update followers f
set positions = array(
        select coalesce(m.position, p.position)
        from unnest(f.positions) with ordinality as p (position, n)
        left join unnest(%(lanes)s::smallint[], %(positions)s::bigint[]) as m (lane, position)
            on m.lane = f.part * 16 + p.n - 1
        order by p.n),
    moved_at = clock_timestamp(), holder = null, held_until = null
where f.follower = %(follower)s and f.holder = %(holder)s
returning 1

-- name: release
update followers set holder = null, held_until = null
where follower = %(follower)s and holder = %(holder)s

-- name: behind
-- Those of the streams that have events which the follower has not processed.
select e.stream_id
from unnest(%(stream_ids)s::text[]) as given (stream_id)
cross join lateral (
    select stream_id, lane, lane_position from events
    where stream_id = given.stream_id order by version desc limit 1
) e
left join followers f on f.follower = %(follower)s and f.part = e.lane / 16
where e.lane_position > coalesce(f.positions[e.lane %% 16 + 1], 0)

-- name: positions
select part, positions from followers where follower = %(follower)s

-- name: moved
select follower, max(moved_at) from followers group by follower

-- name: lag
-- Of each lane with unread events: how many, and the age of the first in seconds.
select l.lane, h.lane_position - l.position,
    extract(epoch from clock_timestamp() - unread.recorded_at)::float8
from (
    select (part.part * 16 + n - 1)::smallint as lane, coalesce(f.positions[n], 0) as position
    from generate_series(0, 15) as part (part)
    cross join generate_series(1, 16) as n
    left join followers f on f.part = part.part and f.follower = %(follower)s
) l
cross join lateral (
    select lane, recorded_at from events
    where lane = l.lane and lane_position > l.position order by lane_position limit 1
) unread
cross join lateral (
    select lane_position from events where lane = unread.lane order by lane_position desc limit 1
) h
