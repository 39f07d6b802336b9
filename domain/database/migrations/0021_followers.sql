-- Code since 0012 runs with this. Its followers go on from checkpoints of their own, so what they do
-- beside those of this release is done twice, which is harmless. It cannot rebuild projections.
-- How far each follower has come in every lane. A follower's lanes are in 16 parts of 16; whoever
-- processes events of a part locks its row meanwhile.

create table followers (
    follower text collate "C" check (length(follower) between 1 and 120),
    part smallint check (part between 0 and 15),
    -- of the lanes from part * 16 on
    positions bigint[] not null default array_fill(0::bigint, array[16])
        check (array_ndims(positions) = 1 and cardinality(positions) = 16
            and array_position(positions, null) is null),
    moved_at timestamptz not null default now(),
    primary key (follower, part)
) with (fillfactor = 50);
grant select, insert, update on followers to qlp_app;

-- Each goes on where its checkpoint is: before the first event of each lane that it has not read. If
-- the log came from another cluster, that is found by position, as the checkpoint was re-based.
insert into followers (follower, part, positions)
with unread as (
    select c.name, e.lane, min(e.lane_position) as lane_position
    from checkpoints c
    cross join log_identity i
    left join lateral (
        select transaction_id, position from events
        where position > c.position
        order by transaction_id, position
        limit 1
    ) next on c.system_identifier <> i.system_identifier
    join events e on case when c.system_identifier = i.system_identifier
        then (e.transaction_id, e.position) > (c.transaction_id, c.position)
        else (e.transaction_id, e.position) >= (next.transaction_id, next.position) end
    where c.name <> 'seals'
    group by c.name, e.lane
)
select c.name, l.lane / 16,
    array_agg(coalesce(u.lane_position - 1, h.lane_position, 0) order by l.lane)
from checkpoints c
cross join generate_series(0, 255) as l (lane)
left join lateral (
    select lane_position from events
    where lane = l.lane::smallint order by lane_position desc limit 1
) h on true
left join unread u on u.name = c.name and u.lane = l.lane
where c.name <> 'seals'
group by c.name, l.lane / 16;

-- A rebuild that an earlier release has begun starts over. That release can begin no other one: it
-- does not know how far followers of this one have come.
delete from projection_rebuilds;
alter table projection_rebuilds
    alter column after_stream drop not null, alter column transaction_id drop not null,
    alter column position drop not null,
    add column heads bigint[] not null check (cardinality(heads) = 256),
    add column lanes smallint not null check (lanes between 0 and 256),
    add column run uuid not null default gen_random_uuid();
