-- name: schema
-- Of the copies: a rebuild continues only on the same basis.
select max(version) from public.schema_migrations

-- name: load
select basis, phase, lanes, heads, events, total
from public.projection_rebuilds where projection = %(name)s

-- name: begin
insert into public.projection_rebuilds (projection, basis, phase, lanes, heads, events, total)
values (%(name)s, %(basis)s, %(phase)s, %(lanes)s, %(heads)s, %(events)s,
    (select count(*) from public.events))

-- name: save
update public.projection_rebuilds
set phase = %(phase)s,
    lanes = %(lanes)s,
    heads = %(heads)s,
    events = %(events)s,
    updated_at = now()
where projection = %(name)s

-- name: take_over
-- Waits for a page that a process of an earlier run works on; what it begins later is refused.
select from public.projection_rebuilds where projection = %(name)s for update

-- name: new_run
update public.projection_rebuilds set run = gen_random_uuid()
where projection = %(name)s returning run

-- name: forget
delete from public.projection_rebuilds where projection = %(name)s

-- name: events
select count(*) from public.events
