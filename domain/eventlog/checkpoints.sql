-- name: lock
select pg_advisory_lock(hashtextextended(%(name)s, 2))

-- name: unlock
select pg_advisory_unlock(hashtextextended(%(name)s, 2))

-- name: load
-- Looks for the checkpoint's event only if the log has come to another cluster since.
select c.transaction_id, c.position,
    c.system_identifier = i.system_identifier
    or c.position = 0
    or exists (select from events e
               where e.transaction_id = c.transaction_id and e.position = c.position)
from checkpoints c cross join log_identity i
where c.name = %(name)s

-- name: rebase
-- The last event, in the log's order, before all events with a greater position.
with next as (
    select transaction_id, position from events
    where position > %(position)s
    order by transaction_id, position
    limit 1
)
select e.transaction_id, e.position
from events e
where e.transaction_id < (select horizon from log_horizon)
    and not exists (select from next n
                    where (e.transaction_id, e.position) >= (n.transaction_id, n.position))
order by e.transaction_id desc, e.position desc
limit 1

-- name: save
insert into checkpoints (name, transaction_id, position, system_identifier)
select %(name)s, %(transaction_id)s::xid8, %(position)s, system_identifier from log_identity
on conflict (name) do update
set transaction_id = excluded.transaction_id,
    position = excluded.position,
    system_identifier = excluded.system_identifier,
    updated_at = now()

-- name: all
select name, transaction_id, position, updated_at from checkpoints order by name
