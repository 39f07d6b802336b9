-- name: of_tenant
select id, source, tenant_id, reason, description, body, message_id, traceparent, deliveries,
    first_seen_at, last_seen_at
from rejected_messages
where tenant_id = %(tenant_id)s
    and (last_seen_at, id) < (%(before_last_seen_at)s, %(before_id)s)
order by last_seen_at desc, id desc
limit %(limit)s
