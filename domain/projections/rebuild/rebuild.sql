-- name: try_lock
select pg_try_advisory_lock(hashtextextended(%(name)s, 3))

-- name: unlock
select pg_advisory_unlock(hashtextextended(%(name)s, 3))

-- name: transaction_settings
-- No limit for index builds and checks; the caller says how long to wait for locks.
select set_config('statement_timeout', '0', true), set_config('lock_timeout', %(lock)s, true),
    set_config('idle_in_transaction_session_timeout', '300s', true),
    set_config('maintenance_work_mem', '256MB', true),
    set_config('work_mem', '64MB', true),  -- the check groups all events by stream
    -- A crash of the server may lose the copies' last pages, but then also their position.
    set_config('synchronous_commit', %(durable)s, true)

-- name: forget_follower
delete from public.followers where follower = %(follower)s

-- name: forget_parked
delete from public.parked_streams where projection = %(name)s

-- name: take_parked
insert into public.parked_streams select * from parked_streams where projection = %(name)s
returning 1

-- name: built
insert into public.projections (name, version) values (%(name)s, %(version)s)
on conflict (name) do update set version = excluded.version
