-- name: without_limit
select set_config('statement_timeout', '0', true)

-- name: searched_by_index
-- Tenants with more vectors than are compared exactly, and all that they have.
select tenant_id, count(*) from intent_embeddings
where model = %(model)s
group by tenant_id
having count(*) > %(exact_up_to)s

-- name: sample
-- Random stored vectors of these tenants, out of a part of all pages: ids are in the order of time,
-- so a random id would find nothing.
select intent_id, tenant_id, embedding
from intent_embeddings tablesample system (%(percent)s)
where model = %(model)s and tenant_id = any(%(tenants)s)
order by random()
limit %(sample)s

-- name: indexes
-- The vector indexes of a partition.
select c.relname::text, i.indisvalid and i.indisready
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_am a on a.oid = c.relam
where i.indrelid = to_regclass(format('public.intent_embeddings_%%s', %(number)s::int))
    and a.amname in ('hnsw', 'ivfflat')
order by 1
