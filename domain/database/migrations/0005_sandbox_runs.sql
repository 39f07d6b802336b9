-- What runs leave beside the log: limits of tenants, contents of artifacts, live output.

-- Limits of a tenant's runs that differ from the product's own: what a program gets that asks for
-- nothing, and the most it may ask for. Keys are fields of domain.intents.content.Limits.
create table tenant_limits (
    tenant_id text collate "C" primary key references tenants,
    defaults jsonb not null check (jsonb_typeof(defaults) = 'object'),
    ceilings jsonb not null check (jsonb_typeof(ceilings) = 'object'),
    updated_at timestamptz not null default now()
);

-- Each content once per tenant; never shared between tenants, who must not learn what others hold.
create table artifact_contents (
    tenant_id text collate "C" not null,
    sha256 bytea not null check (length(sha256) = 32),
    content bytea not null,
    stored_at timestamptz not null default now(),  -- or last vouched for
    primary key (tenant_id, sha256)
);
alter table artifact_contents alter column content set storage external;  -- not worth compressing
create index artifact_contents_by_age on artifact_contents (stored_at);

-- What an unfinished run has uploaded: counts against its limit.
create table artifact_uploads (
    run_id uuid not null,
    sha256 bytea not null,
    size bigint not null,
    uploaded_at timestamptz not null default now(),
    primary key (run_id, sha256)
);
create index artifact_uploads_by_age on artifact_uploads (uploaded_at);

-- Which run has left which content; written with the event that names the files. A content is kept
-- for as long as a claim of it is young.
create table artifact_claims (
    tenant_id text collate "C" not null,
    sha256 bytea not null,
    run_id uuid not null,
    intent_id uuid not null,
    claimed_at timestamptz not null default now(),
    primary key (tenant_id, sha256, run_id)
);
create index artifact_claims_by_age on artifact_claims (claimed_at);

-- What a running program has printed so far; its result has the whole.
create table run_output (
    run_id uuid not null,
    seq integer not null,
    stream text not null check (stream in ('stdout', 'stderr')),
    text text not null,
    recorded_at timestamptz not null default now(),
    primary key (run_id, seq)
);
create index run_output_by_age on run_output (recorded_at);

alter table usage_daily add column artifact_bytes bigint not null default 0;

grant select, insert, update, delete on tenant_limits, artifact_contents to qlp_app;
grant select, insert, delete on artifact_uploads, artifact_claims, run_output to qlp_app;
