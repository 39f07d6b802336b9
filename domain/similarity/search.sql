-- The nearest vectors first. An index is used only where a query orders by the very expression that
-- it is built on (embedding_index_ddl), so there is an order for each expression. With conditions
-- on the intent, intents are joined below the limit, and the scan of the index goes on until enough
-- match.

-- name: count_of_tenant
select count(*) from (
    select from intent_embeddings
    where tenant_id = %(tenant_id)s and model = %(model)s
    limit %(most)s
) counted

-- name: intents_of_tenant
select from intent_states s
where s.tenant_id = %(tenant_id)s

-- name: conditions
-- On an intent, after any `where` that names it s.
    and (%(statuses)s::text[] is null or s.status = any(%(statuses)s))
    and s.created_at >= %(created_after)s and s.created_at < %(created_before)s
    and (%(language)s::text is null or s.language = %(language)s)
    and (%(reused)s or s.reused_from is null)

-- name: at_most
limit %(most)s

-- name: nearest
-- Turns the candidates that any of the queries finds into the result.
select 1 - nearest.distance, s.id, s.tenant_id, s.version, s.status, s.user_input, s.text_sha256,
    s.language, s.created_at, s.updated_at, s.expected_by, s.completed_at, s.reused_from,
    s.details, null::json
from (select * from candidates order by distance limit %(limit)s + 1) nearest
join intent_states s on s.id = nearest.intent_id
where s.id is distinct from %(without)s and 1 - nearest.distance >= %(threshold)s
order by nearest.distance
limit %(limit)s

-- name: of_tenant
-- All vectors of a tenant: compared exactly, or put in one of the orders below.
select e.intent_id, e.embedding <=> %(embedding)s as distance
from intent_embeddings e
where e.tenant_id = %(tenant_id)s and e.model = %(model)s

-- name: of_tenant_joined
-- The same, joined with the intents for conditions on them.
select e.intent_id, e.embedding <=> %(embedding)s as distance
from intent_embeddings e
join intent_states s on s.id = e.intent_id
where e.tenant_id = %(tenant_id)s and e.model = %(model)s

-- name: of_tenant_by_intent
-- The same again, from the side of the intents: for conditions that few intents meet.
select e.intent_id, e.embedding <=> %(embedding)s as distance
from intent_states s
join intent_embeddings e on e.intent_id = s.id and e.model = %(model)s
where s.tenant_id = %(tenant_id)s

-- name: vector
order by e.embedding <=> %(embedding)s
limit %(limit)s + 1

-- name: halfvec
order by (e.embedding::halfvec(1536)) <=> %(embedding)s::vector(1536)::halfvec(1536)
limit %(limit)s + 1

-- name: binary
order by (binary_quantize(e.embedding)::bit(1536))
    <~> binary_quantize(%(embedding)s::vector(1536))::bit(1536)
limit %(candidates)s
