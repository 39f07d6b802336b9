-- name: last
-- The last seal, and whether the log was once sealed further.
select seq, digest, to_transaction_id, to_position, clock_timestamp(),
    coalesce((made.transaction_id, made.position)
        > (coalesce(to_transaction_id, '0'::xid8), coalesce(to_position, 0)), false)
from (select clock_timestamp()) now
left join lateral (
    select seq, digest, to_transaction_id, to_position from seals order by seq desc limit 1
) last on true
left join checkpoints made on made.name = %(name)s

-- name: sealed_to
select transaction_id, position from checkpoints where name = %(name)s

-- name: bounds
-- What was assigned so far: transaction ids below the first value, positions up to the second.
select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + i.xid_offset), s.last_value
from log_identity i cross join events_position_seq s

-- name: end
-- The last event whose transaction has begun, whether followers can read it yet or not.
select transaction_id, position from events
where transaction_id < (
    select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + xid_offset)::text::xid8
    from log_identity)
order by transaction_id desc, position desc
limit 1

-- name: strays
-- Events where none can be: of transactions that have not begun, or before the first one.
(select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text, digest
from events
where transaction_id >= (
    select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + xid_offset)::text::xid8
    from log_identity)
order by transaction_id, position
limit %(limit)s)
union all
(select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text, digest
from events
where (transaction_id, position) <= ('0'::xid8, 0)
limit %(limit)s)

-- name: versions
select stream_id, version from events
where (stream_id, version) > (%(stream_id)s::text, %(version)s::integer)
order by stream_id, version
limit %(limit)s

-- name: event_at
select event_id, position from events
where stream_id = %(stream_id)s and version = %(version)s

-- name: unsealed
select position, transaction_id, event_id, stream_id, version, digest
from events
where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
    and transaction_id < (select horizon from log_horizon)
order by transaction_id, position
limit %(limit)s

-- name: insert
insert into seals (seq, from_transaction_id, from_position, to_transaction_id, to_position, events,
    positions, event_ids, stream_ids, versions, digests, sealed_at, previous_digest, digest)
values (%(seq)s, %(from_transaction_id)s::xid8, %(from_position)s, %(to_transaction_id)s::xid8, %(to_position)s,
    %(events)s, %(positions)s, %(event_ids)s, %(stream_ids)s, %(versions)s, %(digests)s,
    %(sealed_at)s, %(previous_digest)s, %(digest)s)

-- name: seals
select seq, from_transaction_id, from_position, to_transaction_id, to_position, sealed_at,
    previous_digest, digest, events, positions, event_ids, stream_ids, versions, digests
from seals
where seq > %(after)s
order by seq
limit %(limit)s

-- name: heads
select seq, digest, events, sealed_at from seals order by seq desc limit %(limit)s

-- name: heads_of
select seq, digest, events, sealed_at from seals where seq = any(%(seqs)s)

-- name: sealed_events
select coalesce(sum(events), 0)::bigint from seals where seq > %(after)s

-- name: stored
-- Events of a part of the log, with their JSON as stored.
select position, transaction_id, event_id, stream_id, version, type, schema_version, tenant_id,
    command_id, recorded_at, metadata::text, data::text, digest
from events
where (transaction_id, position) > (%(transaction_id)s::xid8, %(position)s::bigint)
    and (transaction_id, position) <= (%(to_transaction_id)s::xid8, %(to_position)s::bigint)
order by transaction_id, position
limit %(limit)s

-- name: positions_of
select event_id, position from events where event_id = any(%(event_ids)s)
