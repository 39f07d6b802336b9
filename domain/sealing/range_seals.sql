-- name: seals
select seq, sealed_at, previous_digest, digest, events, positions, event_ids, stream_ids, versions,
    digests
from range_seals
where seq > %(after)s
order by seq
limit %(limit)s

-- name: last
select seq, digest from range_seals order by seq desc limit 1

-- name: changed
select s.seq, m.event_id, m.stream_id, m.version, e.event_id is null
from range_seals s
cross join unnest(event_ids, stream_ids, versions, digests)
    as m (event_id, stream_id, version, digest)
left join events e on e.event_id = m.event_id
where s.seq = %(seq)s
    and (e.stream_id, e.version, e.digest) is distinct from (m.stream_id, m.version, m.digest)
