-- Code since 0012 runs with this.
-- Until 0020: an event gets its place as it is appended if all earlier ones of its lane have theirs,
-- and else from place_events. So each lane is in order, whatever is appended meanwhile.

-- At once, not step by step: an append that reads first, and then writes, would be in the way.
lock table events in access exclusive mode;

-- With plans for one index alone: while it becomes empty, statistics are of no use.
create function set_event_lane() returns trigger language plpgsql
set enable_seqscan = off set enable_bitmapscan = off as $$
declare
    v_lane smallint := public.lane_of(new.stream_id);
    v_before bytea;
begin
    perform public.take_lanes(array[v_lane]);
    if exists (select from public.events
               where public.unplaced_lane(stream_id) = v_lane and lane_position is null) then
        return new;
    end if;
    new.lane := v_lane;
    select lane_position, chain_digest into new.lane_position, v_before
        from public.events where lane = v_lane order by lane_position desc limit 1;
    new.lane_position := coalesce(new.lane_position, 0) + 1;
    new.chain_digest := public.chain_digest(new.lane, new.lane_position, v_before, new.digest);
    return new;
end
$$;

-- After events_digest, by its name.
create trigger events_lane before insert on events
    for each row when (new.lane_position is null) execute function set_event_lane();

-- The one change that is not refused: an event that has no place gets one.
drop trigger events_immutable on events;
create trigger events_immutable before delete on events
    for each row execute function refuse_change();
create trigger events_immutable_but_for_lanes before update on events
    for each row when (
        old.lane_position is not null
        or (old.transaction_id, old.position, old.event_id, old.stream_id, old.version, old.type,
            old.schema_version, old.tenant_id, old.command_id, old.recorded_at,
            old.metadata::text, old.data::text, old.digest)
        is distinct from
           (new.transaction_id, new.position, new.event_id, new.stream_id, new.version, new.type,
            new.schema_version, new.tenant_id, new.command_id, new.recorded_at,
            new.metadata::text, new.data::text, new.digest)
    ) execute function refuse_change();

-- Groups take their lanes in ascending order, as everybody who takes several. Otherwise they would
-- wait for one another in the trigger.
alter function append_group(text, jsonb) rename to append_group_in_lanes;
create function append_group(
    p_lock_timeout text,
    p_commands jsonb,
    out o_accepted boolean[],
    out o_transaction_id xid8,
    out o_recorded_at timestamptz,
    out o_positions bigint[]
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('lock_timeout', p_lock_timeout, true);
    perform public.take_lanes(array(
        select distinct public.lane_of(c.stream_id) as lane
        from jsonb_to_recordset(p_commands) as c (stream_id text)
        order by lane));
    select g.o_accepted, g.o_transaction_id, g.o_recorded_at, g.o_positions
        into strict o_accepted, o_transaction_id, o_recorded_at, o_positions
        from public.append_group_in_lanes(p_lock_timeout, p_commands) g;
end
$$;
revoke all on function append_group(text, jsonb) from public;
grant execute on function append_group(text, jsonb) to qlp_app;

-- Places the next events of a lane, which it holds meanwhile; returns how many.
create function place_next(p_lane smallint, p_most integer) returns integer language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off
set enable_mergejoin = off as $$
declare
    v_place bigint;
    v_before bytea;
    v_placed integer;
begin
    perform public.take_lanes(array[p_lane]);
    select lane_position, chain_digest into v_place, v_before
        from public.events where lane = p_lane order by lane_position desc limit 1;
    update public.events e
    set lane = p_lane, lane_position = c.lane_position, chain_digest = c.chain_digest
    from (
        select transaction_id, position, lane_position,
            public.chain_digests(v_before, p_lane, lane_position, digest)
                over (order by lane_position) as chain_digest
        from (
            select transaction_id, position, digest, coalesce(v_place, 0)
                + row_number() over (order by transaction_id, position) as lane_position
            from (
                select transaction_id, position, digest from public.events
                where public.unplaced_lane(stream_id) = p_lane and lane_position is null
                order by transaction_id, position
                limit p_most
            ) next
        ) placed
    ) c
    where e.transaction_id = c.transaction_id and e.position = c.position;
    get diagnostics v_placed = row_count;
    return v_placed;
end
$$;

-- Places all events, in short transactions; goes on where another call has stopped.
create procedure place_events() language plpgsql as $$
declare
    v_placed bigint := 0;
    v_now integer;
begin
    for v_lane in 0 .. 255 loop
        loop
            -- So few that writers do not wait for long, however large events are.
            v_now := public.place_next(v_lane::smallint, 250);
            commit;
            v_placed := v_placed + v_now;
            exit when v_now < 250;
        end loop;
        if v_placed > 0 then
            raise info '% of 256 lanes, % events have their places', v_lane + 1, v_placed;
        end if;
    end loop;
end
$$;
