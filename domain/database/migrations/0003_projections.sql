-- Read models that follow the log, and what their runner and their rebuilds remember.

-- Which version of the code the tables of a projection were built by.
create table projections (
    name text collate "C" primary key,
    version integer not null check (version > 0)
);
insert into projections values ('intent_states', 1), ('usage_daily', 1), ('error_patterns', 1);

-- Streams with an event that a projection cannot take: they wait, all others go on.
create table parked_streams (
    projection text collate "C" not null,
    stream_id text collate "C" not null,
    from_version integer not null,
    event_id uuid not null,
    error text not null,
    parked_at timestamptz not null default now(),
    primary key (projection, stream_id)
);

create table usage_daily (
    tenant_id text collate "C" not null,
    day date not null,  -- UTC, of the recording of each event
    submitted bigint not null,
    succeeded bigint not null,
    failed bigint not null,
    cancelled bigint not null,
    runs bigint not null,
    sandbox_ms bigint not null,
    cpu_ms bigint not null,
    output_bytes bigint not null,
    tokens bigint not null,
    latency bigint[] not null,  -- intents by time from submission to end; bounds are in the code
    primary key (tenant_id, day)
);

create table error_patterns (
    tenant_id text collate "C" not null,
    code text collate "C" not null,
    cause text collate "C" not null,  -- without what differs from case to case
    failures bigint not null,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    example_intent_id uuid not null,
    primary key (tenant_id, code, cause)
);
create index error_patterns_recent on error_patterns (tenant_id, last_seen desc);

-- How far a projection has taken each stream: an event that comes again is not counted again.
-- started_at is the recording of the stream's first event.
create table usage_daily_streams (
    stream_id text collate "C" primary key,
    version integer not null,
    started_at timestamptz not null
) with (fillfactor = 85);
create table error_patterns_streams (
    stream_id text collate "C" primary key,
    version integer not null,
    started_at timestamptz not null
) with (fillfactor = 85);

-- Rebuilds under way, each with its tables in a schema of its own; only the owner sees them.
create table projection_rebuilds (
    projection text collate "C" primary key,
    basis text not null,  -- what it is built on; a rebuild on another basis cannot be resumed
    phase text not null check (phase in ('bulk', 'follow')),
    after_stream text collate "C" not null,
    transaction_id xid8 not null,
    position bigint not null,
    events bigint not null,
    total bigint not null,
    started_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

grant select on projections, projection_rebuilds to qlp_app;
grant select, insert, update, delete on parked_streams, usage_daily_streams,
    error_patterns_streams to qlp_app;
grant select, insert, update on usage_daily, error_patterns to qlp_app;
