-- name: append
select o_transaction_id, o_recorded_at, o_positions
from public.append_events(%(stream_id)s, %(tenant_id)s, %(expected_version)s, %(command_id)s,
    %(metadata)s::json, %(event_ids)s, %(types)s, %(schema_versions)s::smallint[], %(data)s)

-- name: append_one
-- The same for a single event: PostgreSQL makes the arrays faster than the driver does.
select o_transaction_id, o_recorded_at, o_positions
from public.append_events(%(stream_id)s, %(tenant_id)s, %(expected_version)s, %(command_id)s,
    %(metadata)s::json, array[%(event_id)s::uuid], array[%(type)s::text],
    array[%(schema_version)s::smallint], array[%(data)s::text])

-- name: append_group
select o_accepted, o_transaction_id, o_recorded_at, o_positions
from public.append_group(%(lock_timeout)s, %(commands)s::jsonb)

-- name: begin
begin

-- name: commit
commit

-- name: of_command
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text
from events
where command_id = %(command_id)s and stream_id = %(stream_id)s
order by version
