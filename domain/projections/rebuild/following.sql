-- name: wrong
select count(*)
from (
    select stream_id, max(version) as version from public.events
    where (transaction_id, position) <= (%(transaction_id)s::xid8, %(position)s::bigint)
    group by stream_id
) logged
full join {streams} taken using (stream_id)
where taken.version is distinct from logged.version
    and not exists (select from parked_streams p
                    where p.projection = %(projection)s and p.stream_id = logged.stream_id)

-- name: live_checkpoint
select transaction_id::text::bigint, position from public.checkpoints where name = %(name)s
