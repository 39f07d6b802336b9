-- name: list
select m.model, m.number, m.state, m.index_kind, m.index_seconds, m.created_at, m.activated_at,
    case when c.reltuples > 10000 then c.reltuples::bigint
        else (select count(*) from intent_embeddings e where e.model = m.model) end,
    pg_table_size(c.oid),
    coalesce(pg_relation_size(to_regclass(
        format('public.intent_embeddings_%%s_%%s', m.number, m.index_kind))), 0)
from embedding_models m
join pg_class c on c.oid = to_regclass(format('public.intent_embeddings_%%s', m.number))
order by m.state, m.created_at

-- name: adopt
select adopt_embedding_model(%(model)s)

-- name: count_owed
select count(*) from (select from embeddings_owed limit 10000) counted
