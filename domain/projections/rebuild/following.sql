-- name: wrong
select count(*)
from (
    select e.stream_id, max(e.version) as version
    from unnest(%(heads)s::bigint[]) with ordinality as h (position, n)
    join public.events e on e.lane = h.n - 1 and e.lane_position <= h.position
    group by e.stream_id
) logged
full join {streams} taken using (stream_id)
where taken.version is distinct from logged.version
    and not exists (select from parked_streams p
                    where p.projection = %(projection)s and p.stream_id = logged.stream_id)

-- name: live_positions
select positions from public.followers where follower = %(follower)s order by part

-- name: move_follower
insert into public.followers (follower, part, positions)
select %(follower)s, part, (%(heads)s::bigint[])[part * 16 + 1 : part * 16 + 16]
from generate_series(0, 15) as part
on conflict (follower, part) do update
set positions = excluded.positions, moved_at = now()

-- name: not_durable
-- A crash of the server may lose the copies' last pages, but then also the position.
set local synchronous_commit = off

-- name: is_of_this_run
-- To the end of the transaction nobody can begin another run.
select from public.projection_rebuilds
where projection = %(projection)s and run = %(run)s for key share
