-- name: run
-- Beside other runners, but not beside what needs the tables to stay as they are. Earlier releases,
-- whose runners exclude each other, hold the same lock while they run.
select pg_try_advisory_xact_lock_shared(hashtextextended(%(follower)s, 2))

-- name: stop
select pg_advisory_xact_lock(hashtextextended(%(follower)s, 2))
