-- name: lock
select pg_advisory_lock(hashtextextended(%(name)s, 2))

-- name: unlock
select pg_advisory_unlock(hashtextextended(%(name)s, 2))

-- name: save
insert into checkpoints (name, transaction_id, position, system_identifier)
select %(name)s, %(transaction_id)s::xid8, %(position)s, system_identifier from log_identity
on conflict (name) do update
set transaction_id = excluded.transaction_id,
    position = excluded.position,
    system_identifier = excluded.system_identifier,
    updated_at = now()
