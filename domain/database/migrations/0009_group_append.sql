-- Several commands in one transaction, each for a stream of its own; append_events in 0001 says what
-- an append has to keep to, and why. A command that cannot be recorded as it stands (it was recorded
-- before, its stream is at another version or of another tenant) is left out and disturbs none of the
-- others; append_events, asked for it alone, says what is the matter.
--
-- p_commands: [{stream_id, tenant_id, expected_version, command_id, metadata,
--     events: [{event_id, type, schema_version, data}, …]}, …]
-- where metadata and data are JSON as strings, so that they are kept byte for byte. One value, not
-- arrays: it is a tenth of the work for the driver, and no more for the server.
create function append_group(
    p_lock_timeout text, -- of the transaction: a stream that is slow must not hold up all others
    p_commands jsonb,
    out o_accepted boolean[], -- of each command
    out o_transaction_id xid8, -- null if none was accepted
    out o_recorded_at timestamptz,
    out o_positions bigint[] -- of the events of those that were, in the order given
) language plpgsql security definer set search_path = pg_catalog, pg_temp
-- A group of another size is no reason to plan anew.
set plan_cache_mode = force_generic_plan as $$
declare
    v_last xid8;
    v_offset bigint;
    v_started timestamptz;
begin
    perform set_config('lock_timeout', p_lock_timeout, true);
    -- All locks before this transaction gets an id, in an order that all groups keep to, so that no
    -- two wait for each other; and in a statement of its own.
    perform pg_advisory_xact_lock(k.key) from (
        select distinct hashtextextended(c.stream_id, 0) as key
        from jsonb_to_recordset(p_commands) as c (stream_id text)
        order by key
    ) k;

    select j.xid_offset, j.server_started, array_agg(j.accepted order by j.n),
        max(j.transaction_id) filter (where j.accepted)
        into strict v_offset, v_started, o_accepted, v_last
        from (
            select i.xid_offset, i.server_started, c.n, e.transaction_id,
                coalesce(e.version, 0) = c.expected_version
                    and coalesce(e.tenant_id = c.tenant_id, true)
                    and (e.version is null or not exists (
                        select from public.events r
                        where r.command_id = c.command_id and r.stream_id = c.stream_id
                    )) as accepted
            from public.log_identity i
            cross join rows from (jsonb_to_recordset(p_commands) as (
                stream_id text, tenant_id text, expected_version integer, command_id uuid
            )) with ordinality as c (stream_id, tenant_id, expected_version, command_id, n)
            left join lateral (
                select version, tenant_id, transaction_id from public.events
                where stream_id = c.stream_id order by version desc limit 1
            ) e on true
        ) j
        group by j.xid_offset, j.server_started;
    if not true = any (o_accepted) then
        return;
    end if;

    if v_started <> pg_postmaster_start_time() then
        v_offset := public.adopt_log();
    end if;
    o_transaction_id := (pg_current_xact_id()::text::bigint + v_offset)::text::xid8;
    if v_last > o_transaction_id then
        raise exception 'the transaction began to write before the last event of a stream'
            using errcode = 'QL004';
    end if;

    o_recorded_at := clock_timestamp();
    with inserted as (
        insert into public.events (transaction_id, event_id, stream_id, version, type,
            schema_version, tenant_id, command_id, recorded_at, metadata, data)
        select o_transaction_id, e.event_id, c.stream_id, c.expected_version + e.n, e.type,
            e.schema_version, c.tenant_id, c.command_id, o_recorded_at, c.metadata::json,
            e.data::json
        from rows from (jsonb_to_recordset(p_commands) as (
                stream_id text, tenant_id text, expected_version integer, command_id uuid,
                metadata text, events jsonb
            )) with ordinality as c (stream_id, tenant_id, expected_version, command_id, metadata,
                events, n)
            cross join rows from (jsonb_to_recordset(c.events) as (
                event_id uuid, type text, schema_version smallint, data text
            )) with ordinality as e (event_id, type, schema_version, data, n)
        where o_accepted[c.n]
        order by c.n, e.n
        returning position
    )
    select array_agg(i.position order by i.position) into o_positions from inserted i;
end
$$;

revoke all on function append_group(text, jsonb) from public;
grant execute on function append_group(text, jsonb) to qlp_app;
