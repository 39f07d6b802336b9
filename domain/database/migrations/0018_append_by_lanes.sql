-- Code since 0012 runs with this.
-- All events have their places (0017), and so has whatever is appended: by functions that take its
-- lane first, and hold it to the end of their transaction. Those of before stay for earlier code; the
-- trigger gives places to what they append.

alter table events add constraint events_placed
    check (lane is not null and lane_position is not null and chain_digest is not null) not valid;

-- What comes in without a place, such as an import, gets it here. It sees the rows that the same
-- statement inserted before.
create or replace function set_event_lane() returns trigger language plpgsql as $$
declare
    v_before bytea;
begin
    new.lane := public.lane_of(new.stream_id);
    perform public.take_lanes(array[new.lane]);
    if current_setting('qlp.importing', true) is distinct from 'yes'
            and public.is_staged(new.lane, new.stream_id, array[new.event_id]) then
        raise exception 'the stream is being imported' using errcode = 'lock_not_available';
    end if;
    select lane_position, chain_digest into new.lane_position, v_before
        from public.events where lane = new.lane order by lane_position desc limit 1;
    new.lane_position := coalesce(new.lane_position, 0) + 1;
    new.chain_digest := public.chain_digest(new.lane, new.lane_position, v_before, new.digest);
    return new;
end
$$;

-- What an import brings, until it lies in the log; one import at a time, of the tables' owner alone.
create table import_events (
    line bigint primary key,
    lane smallint not null,
    event_id uuid not null,
    stream_id text collate "C" not null,
    version integer not null,
    type text collate "C" not null,
    schema_version smallint not null,
    tenant_id text collate "C" not null,
    command_id uuid not null,
    recorded_at timestamptz not null,
    metadata text not null,
    data text not null,
    digest bytea not null
);
create index import_events_streams on import_events (lane, stream_id, version);
create index import_events_ids on import_events (event_id);

-- There is a row from when an import is certain to be finished until it is.
create table accepted_import (
    only_row boolean primary key default true check (only_row),
    accepted_at timestamptz not null default now()
);
grant select on accepted_import to qlp_app;

-- Whether an import that is certain to be finished has yet to add these events, or others to the
-- stream: nobody else may until then.
create function is_staged(p_lane smallint, p_stream_id text, p_event_ids uuid[]) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select exists (select from public.accepted_import) and (
        exists (select from public.import_events i
                where i.lane = p_lane and i.stream_id = p_stream_id)
        or exists (select from public.import_events i where i.event_id = any(p_event_ids)))
$$;
revoke all on function is_staged(smallint, text, uuid[]) from public;
grant execute on function is_staged(smallint, text, uuid[]) to qlp_app;

-- What earlier code orders events by, for those that it has not appended itself.
create function log_transaction_id() returns xid8
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_offset bigint;
    v_started timestamptz;
begin
    select xid_offset, server_started into strict v_offset, v_started from public.log_identity;
    if v_started <> pg_postmaster_start_time() then
        v_offset := public.adopt_log();
    end if;
    return (pg_current_xact_id()::text::bigint + v_offset)::text::xid8;
end
$$;
revoke all on function log_transaction_id() from public;
alter table events alter column transaction_id set default log_transaction_id();

-- The only ways to write events, each with all of a command's events or none:
--   QL001 the command was recorded before          QL003 the stream belongs to another tenant
--   QL002 the stream is at another version
-- The lane is taken by a statement of its own: the next one must see what was committed while it
-- waited, and not for long. Since PostgreSQL 17 the transaction ends after ten seconds, so that a
-- client that stands still in the middle holds up nobody for longer; before, only one that is idle
-- between two statements is ended.
create function append_one(
    p_stream_id text,
    p_tenant_id text,
    p_expected_version integer,
    p_command_id uuid,
    p_metadata json,
    p_event_id uuid,
    p_type text,
    p_schema_version smallint,
    p_data text,
    out o_recorded_at timestamptz
) language plpgsql security definer set search_path = pg_catalog, pg_temp
set lock_timeout = '2s' as $$
declare
    v_data json := p_data::json;
    v_lane smallint := public.lane_of(p_stream_id);
    v_place bigint;
    v_before bytea;
    v_digest bytea;
    v_version integer;
    v_tenant_id text;
    v_importing boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform public.take_lanes(array[v_lane]); -- says that it must be
    end if;
    if current_setting('server_version_num')::integer >= 170000 then
        perform set_config('transaction_timeout', '10s', true);
    end if;
    perform pg_advisory_xact_lock(1, v_lane);

    select i.importing, h.lane_position, h.chain_digest, e.version, e.tenant_id
        into strict v_importing, v_place, v_before, v_version, v_tenant_id
        from (select exists (select from public.accepted_import) as importing) i
        left join lateral (
            select lane_position, chain_digest from public.events
            where lane = v_lane order by lane_position desc limit 1
        ) h on true
        left join lateral (
            select version, tenant_id from public.events
            where stream_id = p_stream_id order by version desc limit 1
        ) e on true;
    if v_importing and public.is_staged(v_lane, p_stream_id, array[p_event_id]) then
        raise exception 'the stream is being imported' using errcode = 'lock_not_available';
    end if;
    if v_version is not null then
        if exists (select from public.events
                   where command_id = p_command_id and stream_id = p_stream_id) then
            raise exception 'the command was recorded before' using errcode = 'QL001';
        end if;
        if v_tenant_id <> p_tenant_id then
            raise exception 'the stream belongs to another tenant' using errcode = 'QL003';
        end if;
    end if;
    if coalesce(v_version, 0) <> p_expected_version then
        raise exception 'the stream is at another version'
            using errcode = 'QL002', detail = coalesce(v_version, 0);
    end if;

    o_recorded_at := clock_timestamp();
    v_place := coalesce(v_place, 0) + 1;
    v_digest := public.event_digest(p_event_id, p_command_id, o_recorded_at,
        p_expected_version + 1, p_schema_version, p_stream_id, p_type, p_tenant_id, p_metadata,
        v_data);
    insert into public.events (event_id, stream_id, version, type, schema_version, tenant_id,
        command_id, recorded_at, metadata, data, digest, lane, lane_position, chain_digest)
    values (p_event_id, p_stream_id, p_expected_version + 1, p_type, p_schema_version, p_tenant_id,
        p_command_id, o_recorded_at, p_metadata, v_data, v_digest, v_lane, v_place,
        public.chain_digest(v_lane, v_place, v_before, v_digest));
end
$$;

-- Several events of one command: the first as any single one, the others behind it.
create function append_many(
    p_stream_id text,
    p_tenant_id text,
    p_expected_version integer,
    p_command_id uuid,
    p_metadata json,
    p_event_ids uuid[],
    p_types text[],
    p_schema_versions smallint[],
    p_data text[],
    out o_recorded_at timestamptz
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_lane smallint;
    v_place bigint;
    v_before bytea;
begin
    o_recorded_at := public.append_one(p_stream_id, p_tenant_id, p_expected_version,
        p_command_id, p_metadata, p_event_ids[1], p_types[1], p_schema_versions[1], p_data[1]);
    select lane, lane_position, chain_digest into strict v_lane, v_place, v_before
        from public.events where stream_id = p_stream_id and version = p_expected_version + 1;
    if exists (select from public.accepted_import)
            and public.is_staged(v_lane, p_stream_id, p_event_ids) then
        raise exception 'an event is being imported' using errcode = 'lock_not_available';
    end if;
    insert into public.events (event_id, stream_id, version, type, schema_version, tenant_id,
        command_id, recorded_at, metadata, data, digest, lane, lane_position, chain_digest)
    select d.event_id, p_stream_id, d.version, d.type, d.schema_version, p_tenant_id, p_command_id,
        o_recorded_at, p_metadata, d.data, d.digest, v_lane, v_place + d.n - 1,
        public.chain_digests(v_before, v_lane, v_place + d.n - 1, d.digest) over (order by d.n)
    from (
        select e.*, public.event_digest(e.event_id, p_command_id, o_recorded_at, e.version,
            e.schema_version, p_stream_id, e.type, p_tenant_id, p_metadata, e.data) as digest
        from (
            select g.event_id, g.type, g.schema_version, g.data::json as data, g.n,
                (p_expected_version + g.n)::integer as version
            from unnest(p_event_ids, p_types, p_schema_versions, p_data) with ordinality
                as g (event_id, type, schema_version, data, n)
            where g.n > 1
            offset 0 -- parses JSON once
        ) e
        offset 0 -- makes the digest once
    ) d
    order by d.n;
end
$$;

-- What a command appends behind, in its lane, and whether it is accepted.
create function before_command(
    p_stream_id text, p_tenant_id text, p_expected_version integer, p_command_id uuid
) returns table (lane smallint, lane_position bigint, chain_digest bytea, accepted boolean)
language sql stable as $$
    select l.lane, coalesce(h.lane_position, 0), h.chain_digest,
        coalesce(e.version, 0) = p_expected_version
            and coalesce(e.tenant_id = p_tenant_id, true)
            and r.command_id is null
    from (select public.lane_of(p_stream_id) as lane) l
    left join lateral (
        select lane_position, chain_digest from public.events
        where lane = l.lane order by lane_position desc limit 1
    ) h on true
    left join lateral (
        select version, tenant_id from public.events
        where stream_id = p_stream_id order by version desc limit 1
    ) e on true
    left join lateral ( -- "exists" might read the whole table, to compare all commands at once
        select command_id from public.events
        where e.version is not null and command_id = p_command_id and stream_id = p_stream_id
        limit 1
    ) r on true
$$;

-- What several commands begin with: all their lanes, in ascending order, and not for long.
create function take_lanes_of(p_lock_timeout text, p_commands jsonb) returns void
language plpgsql as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform public.take_lanes('{}'); -- says that it must be
    end if;
    perform set_config('lock_timeout', p_lock_timeout, true);
    if current_setting('server_version_num')::integer >= 170000 then
        perform set_config('transaction_timeout', '10s', true);
    end if;
    perform pg_advisory_xact_lock(1, l.lane) from (
        select public.lane_of(c.stream_id) as lane
        from jsonb_to_recordset(p_commands) as c (stream_id text)
        order by lane
    ) l;
end
$$;

-- Commands for streams in different lanes: those that are not accepted are left out.
create function append_commands(
    p_lock_timeout text, -- of the transaction: a stream that is slow must not hold up all others
    p_commands jsonb,
    out o_accepted boolean[], -- of each command
    out o_recorded_at timestamptz -- null if none was accepted
) language plpgsql security definer set search_path = pg_catalog, pg_temp
-- A group of another size is no reason to plan anew.
set plan_cache_mode = force_generic_plan as $$
begin
    perform public.take_lanes_of(p_lock_timeout, p_commands);
    o_recorded_at := clock_timestamp();
    with commands as materialized (
        select c.*, b.lane, b.lane_position, b.chain_digest,
            b.accepted and not (i.importing and public.is_staged(b.lane, c.stream_id, array(
                select s.event_id from jsonb_to_recordset(c.events) as s (event_id uuid)
            ))) as accepted
        from (select exists (select from public.accepted_import) as importing) i
        cross join rows from (jsonb_to_recordset(p_commands) as (
            stream_id text, tenant_id text, expected_version integer, command_id uuid,
            metadata text, events jsonb
        )) with ordinality as c (stream_id, tenant_id, expected_version, command_id, metadata,
            events, n)
        cross join lateral public.before_command(
            c.stream_id, c.tenant_id, c.expected_version, c.command_id) b
    ), inserted as (
        insert into public.events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, recorded_at, metadata, data, digest, lane, lane_position, chain_digest)
        select d.event_id, d.stream_id, d.version, d.type, d.schema_version, d.tenant_id,
            d.command_id, o_recorded_at, d.metadata, d.data, d.digest, d.lane, d.lane_position,
            public.chain_digests(d.before, d.lane, d.lane_position, d.digest)
                over (partition by d.lane order by d.lane_position)
        from (
            select j.*, public.event_digest(j.event_id, j.command_id, o_recorded_at, j.version,
                j.schema_version, j.stream_id, j.type, j.tenant_id, j.metadata, j.data) as digest
            from (
                select e.event_id, c.stream_id, (c.expected_version + e.n)::integer as version,
                    e.type, e.schema_version, c.tenant_id, c.command_id,
                    c.metadata::json as metadata, e.data::json as data, c.lane,
                    c.lane_position + e.n as lane_position, c.chain_digest as before
                from commands c
                cross join rows from (jsonb_to_recordset(c.events) as (
                    event_id uuid, type text, schema_version smallint, data text
                )) with ordinality as e (event_id, type, schema_version, data, n)
                where c.accepted
                offset 0 -- parses JSON once, not wherever it is used
            ) j
            offset 0 -- and makes the digest once
        ) d
    )
    select array_agg(c.accepted order by c.n),
        case when bool_or(c.accepted) then o_recorded_at end
        into strict o_accepted, o_recorded_at from commands c;
end
$$;

-- The same for commands with a single event, as most have: without what several events need.
create function append_one_each(
    p_lock_timeout text,
    p_commands jsonb,
    out o_accepted boolean[],
    out o_recorded_at timestamptz
) language plpgsql security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan as $$
begin
    perform public.take_lanes_of(p_lock_timeout, p_commands);
    o_recorded_at := clock_timestamp();
    with commands as materialized (
        select c.*, b.lane, b.lane_position + 1 as lane_position, b.chain_digest as before,
            b.accepted and not (i.importing
                and public.is_staged(b.lane, c.stream_id, array[c.event_id])) as accepted
        from (select exists (select from public.accepted_import) as importing) i
        cross join rows from (jsonb_to_recordset(p_commands) as (
            stream_id text, tenant_id text, expected_version integer, command_id uuid,
            metadata text, event_id uuid, type text, schema_version smallint, data text
        )) with ordinality as c (stream_id, tenant_id, expected_version, command_id, metadata,
            event_id, type, schema_version, data, n)
        cross join lateral public.before_command(
            c.stream_id, c.tenant_id, c.expected_version, c.command_id) b
    ), inserted as (
        insert into public.events (event_id, stream_id, version, type, schema_version, tenant_id,
            command_id, recorded_at, metadata, data, digest, lane, lane_position, chain_digest)
        select d.event_id, d.stream_id, d.version, d.type, d.schema_version, d.tenant_id,
            d.command_id, o_recorded_at, d.metadata, d.data, d.digest, d.lane, d.lane_position,
            public.chain_digest(d.lane, d.lane_position, d.before, d.digest)
        from (
            select j.*, public.event_digest(j.event_id, j.command_id, o_recorded_at, j.version,
                j.schema_version, j.stream_id, j.type, j.tenant_id, j.metadata, j.data) as digest
            from (
                select c.event_id, c.stream_id, c.expected_version + 1 as version, c.type,
                    c.schema_version, c.tenant_id, c.command_id, c.metadata::json as metadata,
                    c.data::json as data, c.lane, c.lane_position, c.before
                from commands c
                where c.accepted
                offset 0
            ) j
            offset 0
        ) d
    )
    select array_agg(c.accepted order by c.n),
        case when bool_or(c.accepted) then o_recorded_at end
        into strict o_accepted, o_recorded_at from commands c;
end
$$;

do $$
declare
    v_function regprocedure;
begin
    foreach v_function in array array[
        'append_one(text, text, integer, uuid, json, uuid, text, smallint, text)',
        'append_many(text, text, integer, uuid, json, uuid[], text[], smallint[], text[])',
        'append_commands(text, jsonb)',
        'append_one_each(text, jsonb)'
    ]::regprocedure[] loop
        execute format('revoke all on function %s from public', v_function);
        execute format('grant execute on function %s to qlp_app', v_function);
    end loop;
end
$$;
