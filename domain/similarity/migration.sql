-- name: cost
-- Intents without a vector of the target, and their different texts that have none recorded.
with wanting as (
    select e.intent_id from intent_embeddings e
    where e.model = %(source)s and not exists (
        select from intent_embeddings t where t.model = %(target)s and t.intent_id = e.intent_id)
    union
    select o.intent_id from embeddings_owed o where not exists (
        select from intent_embeddings t where t.model = %(target)s and t.intent_id = o.intent_id)
), texts as (
    select s.text_sha256, max(octet_length(s.user_input)) as size
    from wanting w join intent_states s on s.id = w.intent_id
    where s.text_sha256 is not null
    group by s.text_sha256
)
select (select count(*) from wanting), count(*), coalesce(sum(size), 0)::bigint
from texts t
where not exists (
    select from embeddings f where f.model = %(target)s and f.text_sha256 = t.text_sha256)

-- name: page
with wanting as (
    (select e.intent_id, e.tenant_id from intent_embeddings e
     where e.model = %(source)s and e.intent_id > %(after)s and not exists (
        select from intent_embeddings t where t.model = %(target)s and t.intent_id = e.intent_id)
     order by e.intent_id limit %(limit)s)
    union
    (select o.intent_id, o.tenant_id from embeddings_owed o
     where o.intent_id > %(after)s and not exists (
        select from intent_embeddings t where t.model = %(target)s and t.intent_id = o.intent_id)
     order by o.intent_id limit %(limit)s)
)
select w.intent_id, w.tenant_id, s.user_input, s.text_sha256
from wanting w join intent_states s on s.id = w.intent_id
where s.text_sha256 is not null
order by w.intent_id
limit %(limit)s

-- name: missing
-- Intents that would lose their vector by the swap, except those whose text was refused.
select count(*) from intent_embeddings e
where e.model = %(source)s and e.intent_id <> all(%(refused)s::uuid[]) and not exists (
    select from intent_embeddings t where t.model = %(target)s and t.intent_id = e.intent_id)
