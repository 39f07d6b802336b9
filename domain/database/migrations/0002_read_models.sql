-- Read models of intents and what stands beside the log: embeddings, recovery, rejected messages,
-- tenants and their keys.

create extension if not exists vector;

create table intent_states (
    id uuid primary key,
    tenant_id text collate "C" not null,
    version integer not null,
    status text collate "C" not null,
    user_input text not null,
    text_sha256 bytea,
    language text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expected_by timestamptz,  -- when the next event is due; null once there is none to come
    completed_at timestamptz,
    outcome json
) with (fillfactor = 85);  -- room for the updates of a short life on the same page

create index intent_states_by_tenant on intent_states (tenant_id, created_at desc, id desc);
create index intent_states_by_status
    on intent_states (tenant_id, status, created_at desc, id desc);
create index intent_states_unfinished on intent_states (expected_by)
    where expected_by is not null;
create index intent_states_solved on intent_states (tenant_id, text_sha256, completed_at desc)
    where status = 'succeeded' and text_sha256 is not null;

-- Facts that were paid for: the vector of a text under a model, whoever asked.
create table embeddings (
    model text collate "C" not null,
    text_sha256 bytea not null check (length(text_sha256) = 32),
    embedding vector(1536) not null,
    primary key (model, text_sha256)
);
alter table embeddings alter column embedding set storage plain;

-- Narrow and insert-only: a vector on a row that is updated would enter the index anew each time.
create table intent_embeddings (
    intent_id uuid primary key,
    tenant_id text collate "C" not null,
    model text collate "C" not null,
    embedding vector(1536) not null,
    created_at timestamptz not null default now()
);
alter table intent_embeddings alter column embedding set storage plain;
create index intent_embeddings_tenant on intent_embeddings (tenant_id, model);
create index intent_embeddings_hnsw on intent_embeddings
    using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 128);

create view intents as
select s.id, s.tenant_id, s.user_input, s.status, s.created_at, s.updated_at, s.completed_at,
    s.outcome, e.embedding
from intent_states s left join intent_embeddings e on e.intent_id = s.id;

create table intent_recovery (
    intent_id uuid primary key,
    version integer not null,
    attempts integer not null,
    next_attempt_at timestamptz not null
);

create table rejected_messages (
    id uuid primary key,
    source text not null,
    tenant_id text collate "C",
    reason text not null,
    description text not null,
    body bytea not null,
    message_id text,
    traceparent text,
    deliveries integer not null default 1,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now()
);
create index rejected_messages_recent on rejected_messages (last_seen_at desc, id desc);

create table tenants (
    id text collate "C" primary key
        check (id ~ '^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$'),
    created_at timestamptz not null default now()
);

create table api_keys (
    id text collate "C" primary key,
    tenant_id text collate "C" not null references tenants,
    role text not null check (role in ('client', 'operator')),
    secret_sha256 bytea not null check (length(secret_sha256) = 32),
    label text not null check (length(label) <= 200),
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

grant select, insert, update on intent_states to qlp_app;
grant select, insert on embeddings, intent_embeddings to qlp_app;
grant select on intents to qlp_app;
grant select, insert, update, delete on intent_recovery, rejected_messages to qlp_app;
grant select, insert on tenants to qlp_app;
grant select, insert, update on api_keys to qlp_app;
