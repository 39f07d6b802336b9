-- name: session
-- What takes long may, whatever the role is set to; a process that stands still in a transaction, and
-- holds tables, ends. Of what PostgreSQL says by itself only warnings; progress is said at level info.
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
    set_config('idle_in_transaction_session_timeout', '5s', false),
    set_config('client_min_messages', 'warning', false),
    case when current_setting('server_version_num')::integer >= 170000
        then set_config('transaction_timeout', '0', false) end

-- name: lock
select pg_try_advisory_lock(hashtextextended('qlp migrations', 1))

-- name: wait_briefly
select set_config('lock_timeout', %s, true)

-- name: create_table
create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now(),
    runs_with integer
)

-- name: has_table
select to_regclass('schema_migrations') is not null

-- name: has_runs_with
select exists (select from pg_attribute
               where attrelid = 'schema_migrations'::regclass and attname = 'runs_with')

-- name: add_runs_with
alter table schema_migrations add column runs_with integer

-- name: applied
-- As JSON, because the table once had no column runs_with.
select version, name, sha256, (to_jsonb(m) ->> 'runs_with')::integer
from schema_migrations m order by version

-- name: record
insert into schema_migrations (version, name, sha256, runs_with) values (%s, %s, %s, %s)
