-- name: append_many
-- One JSON value instead of arrays: PostgreSQL builds arrays faster than the driver does.
select o_recorded_at
from (
    select array_agg(event_id order by n) as event_ids, array_agg(type order by n) as types,
        array_agg(schema_version order by n) as schema_versions, array_agg(data order by n) as data
    from rows from (jsonb_to_recordset(%(events)s::jsonb) as (
        event_id uuid, type text, schema_version smallint, data text
    )) with ordinality as given (event_id, type, schema_version, data, n)
) events,
lateral public.append_many(%(stream_id)s, %(tenant_id)s, %(expected_version)s, %(command_id)s,
    %(metadata)s::json, events.event_ids, events.types, events.schema_versions, events.data)

-- name: append_one
-- For commands with a single event, as most have.
select o_recorded_at
from public.append_one(%(stream_id)s, %(tenant_id)s, %(expected_version)s, %(command_id)s,
    %(metadata)s, %(event_id)s, %(type)s, %(schema_version)s::smallint, %(data)s)

-- name: append_commands
select o_recorded_at, o_accepted
from public.append_commands(%(lock_timeout)s, %(commands)s::jsonb)

-- name: append_one_each
-- For a group of commands with a single event each.
select o_recorded_at, o_accepted
from public.append_one_each(%(lock_timeout)s, %(commands)s::jsonb)

-- name: begin
begin

-- name: not_for_long
-- What takes longer is done alone: a group must not wait for one of its commands.
set local statement_timeout = '1s'

-- name: commit
commit

-- name: of_command
select event_id, stream_id, version, type, schema_version, tenant_id, command_id, recorded_at,
    metadata::text, data::text
from events
where command_id = %(command_id)s and stream_id = %(stream_id)s
order by version
