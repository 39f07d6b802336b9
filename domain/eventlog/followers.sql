-- name: begin
insert into followers (follower, part)
select %(follower)s, part from generate_series(0, 15) as part
on conflict do nothing

-- name: hold
begin

-- name: commit
commit

-- name: more
-- Whether parts have events to read that are old enough, whoever holds them. An event of the future,
-- before which the clock was set back, is.
select exists (
    select from followers f
    cross join lateral unnest(f.positions) with ordinality as p (position, n)
    cross join lateral (
        select recorded_at from events e
        where e.lane = (f.part * 16 + p.n - 1)::smallint and e.lane_position > p.position
        order by e.lane_position limit 1
    ) e
    where f.follower = %(follower)s and f.part = any(%(parts)s::smallint[])
        and e.recorded_at not between
            clock_timestamp() - make_interval(secs => %(min_age)s) and clock_timestamp())

-- name: take
-- Holds parts that nobody else holds and that have events to read (see above), and reads some of
-- these: of every lane the next ones. Lanes come in a random order, so that a long one cannot keep
-- others waiting. The transaction of a holder that stands still will be ended, and what it holds be
-- free.
with held as materialized (
    select f.part, f.positions
    from followers f
    cross join (
        select set_config('idle_in_transaction_session_timeout', %(idle)s, true),
            case when current_setting('server_version_num')::integer >= 170000
                then set_config('transaction_timeout', %(most)s, true) end
    ) silent
    where f.follower = %(follower)s and f.part = any(%(parts)s::smallint[])
        and exists (
            select from unnest(f.positions) with ordinality as p (position, n)
            cross join lateral (
                select recorded_at from events e
                where e.lane = (f.part * 16 + p.n - 1)::smallint and e.lane_position > p.position
                order by e.lane_position limit 1
            ) e
            where e.recorded_at not between
                clock_timestamp() - make_interval(secs => %(min_age)s) and clock_timestamp())
    order by random()
    limit %(most_parts)s
    for update of f skip locked
), lanes as (
    select (h.part * 16 + p.n - 1)::smallint as lane, p.position
    from held h cross join lateral unnest(h.positions) with ordinality as p (position, n)
    order by random()
), next as (
    select e.*
    from lanes l
    cross join lateral (
        select event_id, stream_id, version, type, schema_version, tenant_id, command_id,
            recorded_at, metadata::text, data::text, lane_position, lane,
            recorded_at not between
                clock_timestamp() - make_interval(secs => %(min_age)s) and clock_timestamp() as aged
        from events e
        where e.lane = l.lane and e.lane_position > l.position
        order by e.lane_position
        limit %(per_lane)s
    ) e
    limit %(most_events)s
)
select * from next order by lane, lane_position

-- name: save
-- Moves the given lanes.
update followers f
set positions = array(
        select coalesce(m.position, p.position)
        from unnest(f.positions) with ordinality as p (position, n)
        left join unnest(%(lanes)s::smallint[], %(positions)s::bigint[]) as m (lane, position)
            on m.lane = f.part * 16 + p.n - 1
        order by p.n),
    moved_at = clock_timestamp()
where f.follower = %(follower)s and f.part in (
    select lane / 16 from unnest(%(lanes)s::smallint[]) as m (lane))

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
