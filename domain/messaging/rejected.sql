-- name: record
insert into rejected_messages as r (id, source, tenant_id, reason, description, body, message_id,
    traceparent)
values (%(id)s, %(source)s, %(tenant_id)s, %(reason)s, %(description)s, %(body)s, %(message_id)s,
    %(traceparent)s)
on conflict (id) do update
set deliveries = r.deliveries + 1,
    tenant_id = excluded.tenant_id,
    message_id = excluded.message_id,
    traceparent = excluded.traceparent,
    reason = excluded.reason,
    description = excluded.description,
    last_seen_at = now()

-- name: list
select id, source, tenant_id, reason, description, body, message_id, traceparent, deliveries,
    first_seen_at, last_seen_at
from rejected_messages
where (last_seen_at, id) < (%(before_last_seen_at)s, %(before_id)s)
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
order by last_seen_at desc, id desc
limit %(limit)s

-- name: get
select id, source, tenant_id, reason, description, body, message_id, traceparent, deliveries,
    first_seen_at, last_seen_at
from rejected_messages
where id = %(id)s

-- name: held
select id, source, tenant_id, reason, description, body, message_id, traceparent, deliveries,
    first_seen_at, last_seen_at
from rejected_messages
where reason = any(%(reasons)s::text[]) and id <> all(%(without)s::uuid[])
order by first_seen_at, id
limit %(limit)s

-- name: release
delete from rejected_messages where id = %(id)s and deliveries = %(deliveries)s
returning 1

-- name: count_older
select count(*) from rejected_messages where last_seen_at < %(before)s

-- name: purge
delete from rejected_messages where id in (
    select id from rejected_messages where last_seen_at < %(before)s
    order by last_seen_at, id
    limit %(limit)s
) and last_seen_at < %(before)s
returning 1
