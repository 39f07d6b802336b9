-- A single event, which most commands have, in the cheapest form: no arrays, and the digest is made
-- with the event. What comes in another way, such as an import, still gets its digest by the trigger.

drop trigger events_digest on events;
create trigger events_digest before insert on events
    for each row when (new.digest is null) execute function set_event_digest();

-- append_events in 0001 says what an append has to keep to, and why.
create function append_event(
    p_stream_id text,
    p_tenant_id text,
    p_expected_version integer,
    p_command_id uuid,
    p_metadata json,
    p_event_id uuid,
    p_type text,
    p_schema_version smallint,
    p_data text,
    out o_transaction_id xid8,
    out o_recorded_at timestamptz,
    out o_position bigint
) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_data json := p_data::json;
    v_version integer;
    v_tenant_id text;
    v_last xid8;
    v_offset bigint;
    v_started timestamptz;
begin
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
    insert into public.events (transaction_id, event_id, stream_id, version, type, schema_version,
        tenant_id, command_id, recorded_at, metadata, data, digest)
    values (o_transaction_id, p_event_id, p_stream_id, p_expected_version + 1, p_type,
        p_schema_version, p_tenant_id, p_command_id, o_recorded_at, p_metadata, v_data,
        public.event_digest(p_event_id, p_command_id, o_recorded_at, p_expected_version + 1,
            p_schema_version, p_stream_id, p_type, p_tenant_id, p_metadata, v_data))
    returning position into o_position;
end
$$;

-- Several events of one command: the first as any single one, the others behind it.
create or replace function append_events(
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
    v_first bigint;
    v_others bigint[];
begin
    select f.o_transaction_id, f.o_recorded_at, f.o_position
        into strict o_transaction_id, o_recorded_at, v_first
        from public.append_event(p_stream_id, p_tenant_id, p_expected_version, p_command_id,
            p_metadata, p_event_ids[1], p_types[1], p_schema_versions[1], p_data[1]) f;
    with inserted as (
        insert into public.events (transaction_id, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, recorded_at, metadata, data, digest)
        select o_transaction_id, e.event_id, p_stream_id, e.version, e.type, e.schema_version,
            p_tenant_id, p_command_id, o_recorded_at, p_metadata, e.data,
            public.event_digest(e.event_id, p_command_id, o_recorded_at, e.version,
                e.schema_version, p_stream_id, e.type, p_tenant_id, p_metadata, e.data)
        from (
            select g.event_id, g.type, g.schema_version, g.data::json as data,
                (p_expected_version + g.n)::integer as version
            from unnest(p_event_ids, p_types, p_schema_versions, p_data) with ordinality
                as g (event_id, type, schema_version, data, n)
            where g.n > 1
            order by g.n
        ) e
        returning version, position
    )
    select array_agg(i.position order by i.version) into v_others from inserted i;
    o_positions := v_first || v_others;
end
$$;

revoke all on function append_event(text, text, integer, uuid, json, uuid, text, smallint, text)
    from public;
grant execute on function append_event(text, text, integer, uuid, json, uuid, text, smallint, text)
    to qlp_app;
