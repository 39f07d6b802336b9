-- Vectors of several models side by side: a partition for each model, with an index of its own, so
-- that one is filled and indexed while another serves, and thrown away without a deletion.

-- Which models there are. One is active: searches and the view use it. One may be filling: new
-- intents get its vectors too, until it is exchanged for the active one.
create table embedding_models (
    model text collate "C" primary key
        check (model ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,119}(@[1-9][0-9]{0,3})?$'),
    number integer generated always as identity unique,  -- names the partition and its indexes
    state text not null check (state in ('active', 'filling', 'retired')),
    index_kind text not null check (index_kind in ('binary', 'hnsw', 'halfvec', 'ivfflat', 'exact')),
    index_seconds real not null default 0,  -- what its building took
    created_at timestamptz not null default now(),
    activated_at timestamptz
);
create unique index embedding_models_active on embedding_models (state) where state = 'active';
create unique index embedding_models_filling on embedding_models (state) where state = 'filling';

-- Intents that were planned without a vector of a model in use: filled in later.
create table embeddings_owed (
    intent_id uuid primary key,
    tenant_id text collate "C" not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now()
);
create index embeddings_owed_due on embeddings_owed (next_attempt_at);

-- The statement that makes the vector index of a partition. Queries must order by the very
-- expression that is indexed: see domain/similarity/search.sql.
create function embedding_index_ddl(p_number integer, p_kind text, p_lists integer, p_how text)
returns text language sql immutable
return format('create index %s intent_embeddings_%s_%s on public.intent_embeddings_%s using ',
    p_how, p_number, p_kind, p_number)
    || case p_kind
        when 'binary' then 'hnsw ((public.binary_quantize(embedding)::bit(1536)) '
            'public.bit_hamming_ops) with (m = 16, ef_construction = 128)'
        when 'hnsw' then 'hnsw (embedding public.vector_cosine_ops) '
            'with (m = 16, ef_construction = 128)'
        when 'halfvec' then 'hnsw ((embedding::public.halfvec(1536)) public.halfvec_cosine_ops) '
            'with (m = 16, ef_construction = 128)'
        when 'ivfflat' then format('ivfflat (embedding public.vector_cosine_ops) with (lists = %s)',
            p_lists)
    end;

-- Makes room for a model's vectors; an index is built once they are in.
create function open_embedding_model(p_model text, p_state text, p_index_kind text)
returns integer language plpgsql as $$
declare
    v_number integer;
begin
    insert into public.embedding_models (model, state, index_kind, activated_at)
    values (p_model, p_state, p_index_kind, case p_state when 'active' then now() end)
    returning number into v_number;
    -- Attaching locks out neither readers nor writers of the other partitions.
    execute format('create table public.intent_embeddings_%s '
        '(like public.intent_embeddings including defaults including storage)', v_number);
    execute format('alter table public.intent_embeddings attach partition '
        'public.intent_embeddings_%s for values in (%L)', v_number, p_model);
    return v_number;
end
$$;

-- Throws a model's vectors away, those attached to intents and the facts.
create function drop_embedding_model(p_model text) returns void language plpgsql as $$
declare
    v_number integer;
begin
    delete from public.embedding_models where model = p_model and state <> 'active'
    returning number into v_number;
    if v_number is null then
        raise exception 'there is no model % that is not active', p_model;
    end if;
    execute format('drop table public.intent_embeddings_%s', v_number);
    delete from public.embeddings where model = p_model;
end
$$;

-- A database without any vector takes up the model of the settings; one with vectors has to be
-- migrated, which costs. Runs as the owner: the application owns nothing.
create function adopt_embedding_model(p_model text) returns boolean
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    v_old text;
begin
    perform pg_advisory_xact_lock(hashtextextended('qlp embeddings', 1));
    select model into v_old from public.embedding_models where state = 'active';
    if v_old = p_model
        or exists (select from public.embedding_models where state <> 'active')
        or exists (select from public.intent_embeddings)
        or exists (select from public.embeddings)
        or exists (select from public.embeddings_owed) then
        return false;
    end if;
    update public.embedding_models set state = 'retired' where model = v_old;
    perform public.drop_embedding_model(v_old);
    execute public.embedding_index_ddl(
        public.open_embedding_model(p_model, 'active', 'binary'), 'binary', 0, '');
    return true;
end
$$;

-- What was there becomes the first partition; only one model has been in use so far.
drop view intents;
alter table intent_embeddings rename to intent_embeddings_1;
alter table intent_embeddings_1 drop constraint intent_embeddings_pkey;
drop index intent_embeddings_tenant, intent_embeddings_hnsw;

create table intent_embeddings (
    intent_id uuid not null,
    tenant_id text collate "C" not null,
    model text collate "C" not null,
    embedding vector(1536) not null,
    created_at timestamptz not null default now(),
    primary key (intent_id, model)
) partition by list (model);
alter table intent_embeddings alter column embedding set storage plain;
create index intent_embeddings_tenant on intent_embeddings (tenant_id, model);

insert into embedding_models (model, state, index_kind, activated_at)
values ('lexical-v1', 'active', 'binary', now());
alter table intent_embeddings attach partition intent_embeddings_1 for values in ('lexical-v1');
do $$ begin execute embedding_index_ddl(1, 'binary', 0, ''); end $$;

create view intents as
select s.id, s.tenant_id, s.user_input, s.status, s.created_at, s.updated_at, s.completed_at,
    s.outcome, e.embedding
from intent_states s
left join intent_embeddings e on e.intent_id = s.id
    and e.model = (select m.model from embedding_models m where m.state = 'active');

revoke all on function embedding_index_ddl(integer, text, integer, text),
    open_embedding_model(text, text, text), drop_embedding_model(text),
    adopt_embedding_model(text) from public;
grant execute on function adopt_embedding_model(text) to qlp_app;
grant select on embedding_models, intents to qlp_app;
grant select, insert on intent_embeddings to qlp_app;
revoke insert on intent_embeddings_1 from qlp_app;
grant select, insert, update, delete on embeddings_owed to qlp_app;
