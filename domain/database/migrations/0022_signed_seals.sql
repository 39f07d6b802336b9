-- Code since 0012 runs with this. It cannot seal, nor verify the log: its seals have another form.
-- A seal is a signed statement of the heads of all lanes; domain.sealing says what it contains. Those
-- of before remain as they are, and the first new one continues their chain and their numbers.

alter table seals rename to range_seals;
alter table range_seals rename constraint seals_pkey to range_seals_pkey;
alter table range_seals rename constraint seals_digest_key to range_seals_digest_key;
alter trigger seals_immutable on range_seals rename to range_seals_immutable;
alter trigger seals_not_truncated on range_seals rename to range_seals_not_truncated;
revoke insert on range_seals from qlp_app;

create table seals (
    seq bigint primary key check (seq > 0),
    statement text collate "C" not null check (length(statement) <= 4096)
);

-- The heads that a seal's statement is about: of the lanes that went on since the seal before it.
create table seal_heads (
    lane smallint check (lane between 0 and 255),
    seq bigint,
    lane_position bigint not null check (lane_position > 0),
    chain_digest bytea not null check (length(chain_digest) = 32),
    primary key (lane, seq),
    unique (lane, lane_position)
);
create index seal_heads_seq on seal_heads using brin (seq);

create table seal_keys (
    key_id text collate "C" primary key,
    public_key text not null check (length(public_key) <= 1000),
    first_used_at timestamptz not null default now()
);

-- How many seals were made: shows that the last ones are gone.
create table seal_progress (
    only_row boolean primary key default true check (only_row),
    seq bigint not null
);
insert into seal_progress (seq) select coalesce(max(seq), 0) from range_seals;

-- Up to which seal an anchor has them.
create table seal_anchors (
    anchor text collate "C" primary key check (length(anchor) <= 1000),
    seq bigint not null,
    kept_at timestamptz not null default now()
);

do $$
declare
    v_table text;
begin
    foreach v_table in array array['seals', 'seal_heads', 'seal_keys'] loop
        execute format('create trigger %1$s_immutable before update or delete on %1$I
            for each row execute function refuse_change()', v_table);
        execute format('create trigger %1$s_not_truncated before truncate on %1$I
            for each statement execute function refuse_change()', v_table);
        execute format('grant select, insert on %I to qlp_app', v_table);
    end loop;
end
$$;
grant select, update on seal_progress to qlp_app;
grant select, insert, update on seal_anchors to qlp_app;
