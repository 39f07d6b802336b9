-- name: put_fact
insert into embeddings (model, text_sha256, embedding)
values (%(model)s, %(text_sha256)s, %(embedding)s)
on conflict do nothing

-- name: put_of_intent
insert into intent_embeddings (intent_id, tenant_id, model, embedding)
values (%(intent_id)s, %(tenant_id)s, %(model)s, %(embedding)s)
on conflict do nothing

-- name: find
select embedding from embeddings where model = %(model)s and text_sha256 = %(text_sha256)s

-- name: count_of_tenant
select count(*) from (
    select from intent_embeddings
    where tenant_id = %(tenant_id)s and model = %(model)s
    limit %(limit)s
) counted

-- name: similar_exact
with own as materialized (
    select intent_id, embedding <=> %(embedding)s as distance
    from intent_embeddings
    where tenant_id = %(tenant_id)s and model = %(model)s
)
select s.id, s.user_input, s.status, 1 - own.distance
from own join intent_states s on s.id = own.intent_id
where s.id is distinct from %(without)s
order by own.distance
limit %(limit)s

-- name: similar_indexed
with nearest as materialized (
    select intent_id, embedding <=> %(embedding)s as distance
    from intent_embeddings
    where tenant_id = %(tenant_id)s and model = %(model)s
    order by embedding <=> %(embedding)s
    limit %(limit)s + 1
)
select s.id, s.user_input, s.status, 1 - nearest.distance
from nearest join intent_states s on s.id = nearest.intent_id
where s.id is distinct from %(without)s
order by nearest.distance
limit %(limit)s
