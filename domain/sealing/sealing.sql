-- name: last
-- The last seal, or of those of before 0016; and which should be the last.
select p.seq, coalesce(s.seq, r.seq, 0), s.statement, r.digest, clock_timestamp()
from (select) one
left join seal_progress p on true
left join lateral (select seq, statement from seals order by seq desc limit 1) s on true
left join lateral (select seq, digest from range_seals order by seq desc limit 1) r on s.seq is null

-- name: lanes
-- Each lane's head now, and as the last seal states it: another one may be made meanwhile.
select coalesce(h.lane_position, 0), coalesce(s.lane_position, 0), s.chain_digest, e.chain_digest
from generate_series(0, 255) as l (lane)
left join lateral (
    select lane_position from events
    where lane = l.lane::smallint order by lane_position desc limit 1
) h on true
left join lateral (
    select lane_position, chain_digest from seal_heads
    where lane = l.lane::smallint and seq <= %(seq)s order by seq desc limit 1
) s on true
left join events e on e.lane = l.lane::smallint and e.lane_position = s.lane_position
order by l.lane

-- name: chain
select e.*
from unnest(%(lanes)s::smallint[], %(after)s::bigint[], %(to)s::bigint[]) as l (lane, after, upto)
cross join lateral (
    select lane::integer, lane_position, digest, chain_digest from events
    where lane = l.lane and lane_position > l.after and lane_position <= l.upto
    order by lane_position
) e

-- name: insert
-- Unless another seal was made meanwhile, or the database is another: restored to an earlier time.
with heads as (
    select * from unnest(%(lanes)s::smallint[], %(positions)s::bigint[], %(chain_digests)s::bytea[])
        as h (lane, lane_position, chain_digest)
), next as (
    update seal_progress set seq = %(seq)s
    where seq = %(seq)s - 1
        and (select statement from seals where seq = %(seq)s - 1) is not distinct from %(before)s
        and not exists (select from heads h where not exists (
            select from events e where e.lane = h.lane and e.lane_position = h.lane_position
                and e.chain_digest = h.chain_digest))
    returning seq
), key as (
    insert into seal_keys (key_id, public_key)
    select %(key_id)s::text, %(public_key)s::text from next where %(key_id)s::text is not null
    on conflict do nothing
), of_lanes as (
    insert into seal_heads (lane, seq, lane_position, chain_digest)
    select h.lane, n.seq, h.lane_position, h.chain_digest from next n cross join heads h
)
insert into seals (seq, statement) select seq, %(statement)s from next returning seq

-- name: anchored
select seq from seal_anchors where anchor = %(anchor)s

-- name: anchor
insert into seal_anchors (anchor, seq) values (%(anchor)s, %(seq)s)
on conflict (anchor) do update
set seq = greatest(seal_anchors.seq, excluded.seq), kept_at = now()

-- name: seals
select seq, statement from seals where seq > %(after)s order by seq limit %(limit)s

-- name: newest
select statement from seals order by seq desc limit %(limit)s

-- name: heads_of
select seq, lane::integer, lane_position, chain_digest from seal_heads
where seq > %(after)s and seq <= %(to)s
order by seq, lane

-- name: heads_at
-- Each lane's head in a seal, with null where it has none yet.
select h.lane_position, h.chain_digest
from generate_series(0, 255) as l (lane)
left join lateral (
    select lane_position, chain_digest from seal_heads
    where lane = l.lane::smallint and seq <= %(seq)s order by seq desc limit 1
) h on true
order by l.lane

-- name: heads_of_lane
select seq, lane_position, chain_digest from seal_heads
where lane = %(lane)s and lane_position > %(after)s and seq <= %(to)s
order by lane_position

-- name: covering
-- The first seal of an event.
select h.seq, h.lane_position, s.statement from seal_heads h left join seals s using (seq)
where h.lane = %(lane)s and h.lane_position >= %(lane_position)s
order by h.lane_position
limit 1

-- name: heads_of_nothing
-- Heads of seals that were not made. In one statement with how many were: some may be made now.
select h.lane::integer, h.lane_position, h.seq from seal_heads h
where h.seq > (select seq from seal_progress) or h.seq < 1 or h.lane not between 0 and 255
    or h.seq is null or h.lane is null
order by h.seq, h.lane
limit %(limit)s

-- name: progress
select seq from seal_progress

-- name: keys
select key_id, public_key from seal_keys order by first_used_at, key_id
