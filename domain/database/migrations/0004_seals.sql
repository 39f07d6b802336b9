-- Tamper evidence: each event carries a digest made when it is inserted, and seals chain ranges of
-- the log afterwards, so that appends never wait for one another.

do $$
begin
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'the database must be encoded in UTF8, not %: digests are of UTF-8 bytes',
            current_setting('server_encoding');
    end if;
end
$$;

-- SHA-256 over the columns exactly as they are stored; domain.eventlog.digests computes the same.
-- All lengths stand in front, so that no field can slide into its neighbour. Not in it are the
-- transaction id and the position: where an event lies in the log is what seals say.
create function event_digest(p_event_id uuid, p_command_id uuid, p_recorded_at timestamptz,
    p_version integer, p_schema_version smallint, p_stream_id text, p_type text, p_tenant_id text,
    p_metadata json, p_data json)
returns bytea language sql stable parallel safe
return sha256('\x01'::bytea || uuid_send(p_event_id) || uuid_send(p_command_id)
    || timestamptz_send(p_recorded_at) || int4send(p_version) || int2send(p_schema_version)
    || int4send(octet_length(p_stream_id)) || int4send(octet_length(p_type))
    || int4send(octet_length(p_tenant_id)) || int4send(octet_length(p_metadata::text))
    || int4send(octet_length(p_data::text))
    || convert_to(p_stream_id || p_type || p_tenant_id || p_metadata::text || p_data::text,
        'UTF8'));

-- "using" computes the digests of what is there in one rewrite, where an update is refused.
alter table events add column digest bytea;
alter table events alter column digest type bytea using event_digest(event_id, command_id,
    recorded_at, version, schema_version, stream_id, type, tenant_id, metadata, data);
alter table events alter column digest set not null;

-- A stored column by trigger, not a generated one: that would follow a later change of the event
-- and so cover it up.
create function set_event_digest() returns trigger language plpgsql as $$
begin
    new.digest := public.event_digest(new.event_id, new.command_id, new.recorded_at, new.version,
        new.schema_version, new.stream_id, new.type, new.tenant_id, new.metadata, new.data);
    return new;
end
$$;

create trigger events_digest before insert on events
    for each row execute function set_event_digest();

-- What lies where in a range of the log. The arrays run parallel, in the log's order, and name
-- each event, so that one that is gone can still be named. transaction_id is not in the digest:
-- it only says where the range lies in this cluster.
create table seals (
    seq bigint primary key check (seq > 0),
    from_transaction_id xid8 not null,
    from_position bigint not null,
    to_transaction_id xid8 not null,
    to_position bigint not null,
    events integer not null check (events between 1 and 10000),
    positions bigint[] not null,
    event_ids uuid[] not null,
    stream_ids text[] not null,
    versions integer[] not null,
    digests bytea[] not null,
    sealed_at timestamptz not null,
    previous_digest bytea not null check (length(previous_digest) = 32),
    digest bytea not null unique check (length(digest) = 32)
);

create trigger seals_immutable before update or delete on seals
    for each row execute function refuse_change();
create trigger seals_not_truncated before truncate on seals
    for each statement execute function refuse_change();

grant select, insert on seals to qlp_app;
