-- name: claim
-- Which intent lacks the vector of which model; the longest owed first. Nobody else takes them for
-- a while.
with claimed as (
    update embeddings_owed o
    set next_attempt_at = now() + make_interval(secs => %(seconds)s)
    from (select intent_id from embeddings_owed where next_attempt_at <= now()
          order by next_attempt_at limit %(limit)s for update skip locked) due
    where o.intent_id = due.intent_id
    returning o.intent_id, o.tenant_id)
select o.intent_id, o.tenant_id, s.user_input, s.text_sha256, m.model
from claimed o
join intent_states s on s.id = o.intent_id
join embedding_models m on m.state <> 'retired'
where not exists (
    select from intent_embeddings e where e.intent_id = o.intent_id and e.model = m.model)

-- name: release
update embeddings_owed set next_attempt_at = now() where intent_id = any(%(ids)s)

-- name: postpone
-- Refused texts are tried less and less often, and finally given up; those are returned.
with given_up as (
    delete from embeddings_owed
    where intent_id = any(%(ids)s) and attempts + 1 >= %(most)s
    returning intent_id
), postponed as (
    update embeddings_owed
    set attempts = attempts + 1,
        next_attempt_at = now() + make_interval(mins => power(2, attempts)::int)
    where intent_id = any(%(ids)s) and attempts + 1 < %(most)s
)
select intent_id from given_up

-- name: delete_filled
delete from embeddings_owed o
where not exists (
    select from embedding_models m
    where m.state <> 'retired' and not exists (
        select from intent_embeddings e where e.intent_id = o.intent_id and e.model = m.model))
returning 1
