-- Code since 0012 runs with this.
-- Lanes: each stream lies in one of 256, and in each lane events have gapless positions in the order
-- of commits, and digests that are chained as they are written; domain.eventlog.lanes computes the
-- same. The migrations from here to 0020 give every event its place while others append.

create function lane_of(p_stream_id text) returns smallint
language sql stable strict parallel safe
return get_byte(sha256(convert_to(p_stream_id, 'UTF8')), 0)::smallint;

create function chain_digest(p_lane smallint, p_lane_position bigint, p_before bytea, p_digest bytea)
returns bytea language sql immutable parallel safe
return sha256('\x03'::bytea || int2send(p_lane) || int8send(p_lane_position)
    || coalesce(p_before, decode(repeat('00', 32), 'hex')) || p_digest);

-- Of several events in a row: p_first_before is what stands before the first of them.
-- In plpgsql, because PostgreSQL would plan a function in SQL at each call.
create function next_chain_digest(p_before bytea, p_first_before bytea, p_lane smallint,
    p_lane_position bigint, p_digest bytea)
returns bytea language plpgsql immutable parallel safe as $$
begin
    return public.chain_digest(p_lane, p_lane_position, coalesce(p_before, p_first_before),
        p_digest);
end
$$;

create aggregate chain_digests(bytea, smallint, bigint, bytea) (
    sfunc = next_chain_digest, stype = bytea
);

-- Takes lanes, which are to be in ascending order, for this transaction; first of all, before it has an
-- id. Whoever waited must then see what was committed meanwhile: so appends need read committed.
create function take_lanes(p_lanes smallint[]) returns void language plpgsql as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'appends need the isolation level read committed, this is %',
            current_setting('transaction_isolation') using errcode = 'invalid_transaction_state';
    end if;
    for n in 1 .. cardinality(p_lanes) loop
        perform pg_advisory_xact_lock(1, p_lanes[n]);
    end loop;
end
$$;

-- lane_of, for an index: in a database encoded in UTF8, which 0004 demands, it depends on nothing else.
create function unplaced_lane(p_stream_id text) returns smallint
language sql immutable strict parallel safe
return get_byte(sha256(convert_to(p_stream_id, 'UTF8')), 0)::smallint;

alter table events
    add column lane smallint, add column lane_position bigint, add column chain_digest bytea;
