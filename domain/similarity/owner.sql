-- What only the owner of the tables can do: add models, build and swap indexes.

-- name: try_lock
select pg_try_advisory_lock(hashtextextended('qlp embeddings', 2))

-- name: unlock
select pg_advisory_unlock(hashtextextended('qlp embeddings', 2))

-- name: owns
select pg_has_role(current_user, relowner, 'USAGE')
from pg_class where oid = 'public.intent_embeddings'::regclass

-- name: without_limit
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
    set_config('maintenance_work_mem', %(memory)s, false)

-- name: with_limits
reset statement_timeout

-- name: with_lock_limit
reset lock_timeout

-- name: with_memory_limit
reset maintenance_work_mem

-- name: index_ddl
select embedding_index_ddl(%(number)s, %(kind)s, %(lists)s, 'concurrently')

-- name: drop_ddl
select format('drop index concurrently if exists public.%%I', %(index)s::text)

-- name: reindex_ddl
select format('reindex index concurrently public.%%I', %(index)s::text)

-- name: progress
select coalesce(max(blocks_done::float8 / nullif(blocks_total, 0)), 0)
from pg_stat_progress_create_index
where relid = to_regclass(format('public.intent_embeddings_%%s', %(number)s::int))

-- name: indexed_by
update embedding_models set index_kind = %(kind)s, index_seconds = %(seconds)s
where model = %(model)s

-- name: open
select open_embedding_model(%(model)s, 'filling', %(kind)s)

-- name: reopen
update embedding_models set state = 'filling' where model = %(model)s and state = 'retired'

-- name: drop
select drop_embedding_model(%(model)s)

-- name: limit_lock_wait
select set_config('lock_timeout', '2s', true), set_config('statement_timeout', '0', true)

-- name: hold_writers
lock table intent_embeddings in share row exclusive mode

-- name: retire
update embedding_models set state = 'retired' where state = 'active'

-- name: activate
update embedding_models set state = 'active', activated_at = now()
where model = %(model)s and state = 'filling'

-- name: analyze
analyze intent_embeddings
