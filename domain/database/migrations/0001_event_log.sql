-- The event log. Readers follow it in the order of (transaction_id, position); see the functions
-- below for why neither alone would do.

do $$
begin
    create role qlp_app nologin;
exception
    -- Roles belong to the whole cluster: another database, or another process, was first.
    when duplicate_object or unique_violation then null;
end
$$;

grant usage on schema public to qlp_app;

-- No check constraints: they took 7 % of an append, and append_events is the only way in.
create table events (
    transaction_id xid8 not null default pg_current_xact_id(),
    position bigint generated always as identity,
    event_id uuid not null,
    stream_id text collate "C" not null,
    version integer not null,
    type text collate "C" not null,
    schema_version smallint not null,
    tenant_id text collate "C" not null,
    command_id uuid not null,
    recorded_at timestamptz not null default clock_timestamp(),
    -- json, not jsonb: kept byte for byte, no second parse, and \u0000 in people's text is legal.
    metadata json not null,
    data json not null,
    primary key (transaction_id, position),
    constraint events_stream_version unique (stream_id, version),
    constraint events_event_id unique (event_id)
);

create index events_command on events (command_id);
create index events_tenant_streams on events (tenant_id, stream_id) where version = 1;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'events are immutable: % on % refused', tg_op, tg_table_name
        using errcode = 'restrict_violation';
end
$$;

create trigger events_immutable before update or delete on events
    for each row execute function refuse_change();
create trigger events_not_truncated before truncate on events
    for each statement execute function refuse_change();

-- Transaction ids belong to a cluster: a log restored into another one carries ids from that
-- one's future, which its readers would wait for and its writers would sort in front of.
-- So the log adds an offset to the ids of the cluster it lives in (0 until it is restored), and
-- whoever first touches it after the server started looks whether the offset still holds.
create table log_identity (
    only_row boolean primary key default true check (only_row),
    system_identifier bigint not null,
    server_started timestamptz not null,
    xid_offset bigint not null default 0,
    adopted_at timestamptz not null default now()
);

insert into log_identity (system_identifier, server_started)
select system_identifier, pg_postmaster_start_time() from pg_control_system();

-- Makes the log at home in this cluster; returns the offset.
create function adopt_log(p_check_again boolean default false) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_offset bigint;
    v_started timestamptz;
    v_newest bigint;
    v_next bigint;
begin
    select i.xid_offset, i.server_started into strict v_offset, v_started
        from public.log_identity i for update;
    if v_started = pg_postmaster_start_time() and not p_check_again then
        return v_offset;
    end if;
    select e.transaction_id::text::bigint into v_newest
        from public.events e order by e.transaction_id desc, e.position desc limit 1;
    v_next := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    if v_newest >= v_next + v_offset then
        v_offset := v_newest;
    end if;
    update public.log_identity i
        set xid_offset = v_offset,
            server_started = pg_postmaster_start_time(),
            system_identifier = c.system_identifier,
            adopted_at = case
                when c.system_identifier = i.system_identifier and i.xid_offset = v_offset
                then i.adopted_at else now() end
        from pg_control_system() c;
    return v_offset;
end
$$;

-- Events with a transaction_id below the horizon are all there: no transaction that could still
-- commit has a smaller id. A follower that reads past it loses events.
create view log_horizon as
select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_offset)::text::xid8 as horizon
from log_identity;

-- The only way to write events. All of one command's events, or none:
--   QL001 the command was recorded before          QL003 the stream belongs to another tenant
--   QL002 the stream is at another version         QL004 the transaction is too old
create function append_events(
    p_stream_id text,
    p_tenant_id text,
    p_expected_version integer,
    p_command_id uuid,
    p_metadata json,
    p_event_ids uuid[],
    p_types text[],
    p_schema_versions smallint[],
    p_data text[],
    out o_transaction_id xid8,
    out o_recorded_at timestamptz,
    out o_positions bigint[]
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_version integer;
    v_tenant_id text;
    v_last xid8;
    v_offset bigint;
    v_started timestamptz;
begin
    -- First of all, before this transaction gets an id: whoever waits here would otherwise hold a
    -- smaller id than the event it waits for. And a statement of its own: the next one must see
    -- what was committed while this one waited.
    perform pg_advisory_xact_lock(hashtextextended(p_stream_id, 0));

    select i.xid_offset, i.server_started, e.version, e.tenant_id, e.transaction_id
        into strict v_offset, v_started, v_version, v_tenant_id, v_last
        from public.log_identity i
        left join lateral (
            select version, tenant_id, transaction_id from public.events
            where stream_id = p_stream_id order by version desc limit 1
        ) e on true;
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

    if v_started <> pg_postmaster_start_time() then
        v_offset := public.adopt_log();
    end if;
    o_transaction_id := (pg_current_xact_id()::text::bigint + v_offset)::text::xid8;
    if v_last > o_transaction_id then
        raise exception 'the transaction began to write before the stream''s last event'
            using errcode = 'QL004';
    end if;

    o_recorded_at := clock_timestamp();
    if cardinality(p_event_ids) = 1 then -- the common case, in the cheapest form
        insert into public.events (transaction_id, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, recorded_at, metadata, data)
        values (o_transaction_id, p_event_ids[1], p_stream_id, p_expected_version + 1, p_types[1],
            p_schema_versions[1], p_tenant_id, p_command_id, o_recorded_at, p_metadata,
            p_data[1]::json)
        returning array[position] into o_positions;
        return;
    end if;
    with inserted as (
        insert into public.events (transaction_id, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, recorded_at, metadata, data)
        select o_transaction_id, e.event_id, p_stream_id, p_expected_version + e.n, e.type,
            e.schema_version, p_tenant_id, p_command_id, o_recorded_at, p_metadata, e.data::json
        from unnest(p_event_ids, p_types, p_schema_versions, p_data) with ordinality
            as e (event_id, type, schema_version, data, n)
        order by e.n
        returning version, position
    )
    select array_agg(i.position order by i.version) into o_positions from inserted i;
end
$$;

create table checkpoints (
    name text collate "C" primary key check (length(name) between 1 and 120),
    transaction_id xid8 not null,
    position bigint not null,
    system_identifier bigint not null,
    updated_at timestamptz not null default now()
);

revoke all on function adopt_log(boolean) from public;
revoke all on function append_events(text, text, integer, uuid, json, uuid[], text[], smallint[],
    text[]) from public;
grant execute on function adopt_log(boolean) to qlp_app;
grant execute on function append_events(text, text, integer, uuid, json, uuid[], text[], smallint[],
    text[]) to qlp_app;
grant select on events, log_identity, log_horizon, schema_migrations to qlp_app;
grant select, insert, update, delete on checkpoints to qlp_app;
