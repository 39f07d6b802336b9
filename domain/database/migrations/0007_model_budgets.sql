-- What tenants may use of language models in a day, and what is set aside for calls in progress.

-- One row per tenant that has used a model, or has a budget of its own. Its lock is what calls of a
-- tenant that begin or end at the same time wait for.
create table model_budgets (
    tenant_id text collate "C" primary key references tenants,
    tokens_per_day bigint check (tokens_per_day >= 0),  -- null: as the product has it
    day date not null,  -- UTC; what was used on other days is in usage_daily
    used bigint not null default 0 check (used >= 0),
    updated_at timestamptz not null default now()
);

-- A call, or a few that follow one another. The key is derived from what it is for, so that the row
-- keeps two workers from making the same call at once; whoever dies leaves it to lapse.
create table model_reservations (
    key uuid primary key,
    holder uuid not null,
    tenant_id text collate "C" not null,
    day date not null,
    tokens bigint not null check (tokens >= 0),
    expires_at timestamptz not null
);
create index model_reservations_of_tenant on model_reservations (tenant_id);

grant select, insert, update on model_budgets to qlp_app;
grant select, insert, update, delete on model_reservations to qlp_app;
