-- name: without_limit
select set_config('statement_timeout', '0', true)

-- name: sample
-- Random stored vectors, each found by a random id: no scan of all of them.
select distinct on (e.intent_id) e.intent_id, e.embedding
from generate_series(1, %(sample)s) n
cross join lateral (
    select i.intent_id, i.embedding
    from intent_embeddings i
    where i.model = %(model)s and i.intent_id >= md5(random()::text || n)::uuid
    order by i.intent_id
    limit 1
) e

-- name: exact
with compared as materialized (
    select e.intent_id, e.embedding <=> %(embedding)s as distance
    from intent_embeddings e
    where e.model = %(model)s
)
select intent_id, distance from compared order by distance limit %(limit)s

-- name: vector
with candidates as materialized (
    select e.intent_id, e.embedding <=> %(embedding)s as distance
    from intent_embeddings e
    where e.model = %(model)s
    order by e.embedding <=> %(embedding)s
    limit %(limit)s
)
select intent_id, distance from candidates order by distance

-- name: halfvec
with candidates as materialized (
    select e.intent_id, e.embedding <=> %(embedding)s as distance
    from intent_embeddings e
    where e.model = %(model)s
    order by (e.embedding::halfvec(1536)) <=> %(embedding)s::vector(1536)::halfvec(1536)
    limit %(limit)s
)
select intent_id, distance from candidates order by distance

-- name: binary
with candidates as materialized (
    select e.intent_id, e.embedding <=> %(embedding)s as distance
    from intent_embeddings e
    where e.model = %(model)s
    order by (binary_quantize(e.embedding)::bit(1536))
        <~> binary_quantize(%(embedding)s::vector(1536))::bit(1536)
    limit %(candidates)s
)
select intent_id, distance from candidates order by distance limit %(limit)s

-- name: indexes
-- The vector indexes of a partition.
select c.relname::text, i.indisvalid and i.indisready
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_am a on a.oid = c.relam
where i.indrelid = to_regclass(format('public.intent_embeddings_%%s', %(number)s::int))
    and a.amname in ('hnsw', 'ivfflat')
order by 1
