-- name: recorded
-- The models in use, and the vector of a text under each, if it is there.
select m.model, m.state, m.index_kind, e.embedding
from embedding_models m
left join embeddings e on e.model = m.model and e.text_sha256 = %(text_sha256)s
where m.state <> 'retired'
order by m.state

-- name: put_fact
insert into embeddings (model, text_sha256, embedding)
values (%(model)s, %(text_sha256)s, %(embedding)s)
on conflict do nothing

-- name: put_of_intent
-- A model may have been retired, and its partition dropped, since its vector was asked for.
insert into intent_embeddings (intent_id, tenant_id, model, embedding)
select %(intent_id)s, %(tenant_id)s, m.model, %(embedding)s
from embedding_models m
where m.model = %(model)s and m.state <> 'retired'
on conflict do nothing

-- name: owe
-- If the intent lacks any vector now, also under models that came into use meanwhile.
insert into embeddings_owed (intent_id, tenant_id)
select %(intent_id)s, %(tenant_id)s
where exists (
    select from embedding_models m
    where m.state <> 'retired' and not exists (
        select from intent_embeddings e
        where e.intent_id = %(intent_id)s and e.model = m.model))
on conflict do nothing

-- name: of_intent
-- The vector of an intent under the active model.
select m.model, m.index_kind, e.embedding
from embedding_models m
left join intent_embeddings e on e.model = m.model and e.intent_id = %(intent_id)s
where m.state = 'active'
