-- name: schema_and_cluster
-- The schema of the copies, and the cluster: a rebuild continues only on the same basis.
select (select max(version) from public.schema_migrations),
    (select system_identifier from public.log_identity)

-- name: load
select basis, phase, after_stream, transaction_id::text::bigint, position, events, total
from public.projection_rebuilds where projection = %(name)s

-- name: begin
insert into public.projection_rebuilds (projection, basis, phase, after_stream, transaction_id,
    position, events, total)
values (%(name)s, %(basis)s, %(phase)s, %(after_stream)s, %(transaction_id)s::xid8, %(position)s,
    %(events)s, (select count(*) from public.events))

-- name: save
update public.projection_rebuilds
set phase = %(phase)s,
    after_stream = %(after_stream)s,
    transaction_id = %(transaction_id)s::xid8,
    position = %(position)s,
    events = %(events)s,
    updated_at = now()
where projection = %(name)s

-- name: forget
delete from public.projection_rebuilds where projection = %(name)s

-- name: events
select count(*) from public.events
