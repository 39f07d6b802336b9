-- name: lock
-- The first statement of every change of a tenant's figures: it locks the row, so that each change
-- sees the one before. A new day begins with nothing used.
insert into model_budgets (tenant_id, day)
values (%(tenant_id)s, (clock_timestamp() at time zone 'utc')::date)
on conflict (tenant_id) do update
set used = case when model_budgets.day < excluded.day then 0 else model_budgets.used end,
    day = greatest(model_budgets.day, excluded.day)
returning day

-- name: charge_lapsed
-- Their holders are gone and may have made their calls: all that was reserved is charged.
with lapsed as (
    delete from model_reservations
    where tenant_id = %(tenant_id)s and expires_at <= clock_timestamp()
    returning day, tokens
)
update model_budgets b
set used = used + (select coalesce(sum(tokens), 0) from lapsed where lapsed.day = b.day)
where tenant_id = %(tenant_id)s

-- name: figures
select b.day, coalesce(b.tokens_per_day, %(default)s), b.used,
    (select coalesce(sum(r.tokens), 0)::bigint from model_reservations r
     where r.tenant_id = b.tenant_id and r.day = b.day and r.key <> %(key)s),
    (select r.holder from model_reservations r where r.key = %(key)s),
    (select max(e.version) from events e where e.stream_id = %(stream_id)s)
from model_budgets b
where b.tenant_id = %(tenant_id)s

-- name: put
insert into model_reservations (key, holder, tenant_id, day, tokens, expires_at)
values (%(key)s, %(holder)s, %(tenant_id)s, %(day)s, %(tokens)s, clock_timestamp() + %(lease)s)
on conflict (key) do update
set tokens = excluded.tokens, day = excluded.day, expires_at = excluded.expires_at
where model_reservations.holder = excluded.holder

-- name: settle
-- Nothing is charged twice: a reservation that has lapsed was charged and deleted then.
with settled as (
    delete from model_reservations where key = %(key)s and holder = %(holder)s returning day
)
update model_budgets b
set used = used + %(tokens)s
from settled
where b.tenant_id = %(tenant_id)s and b.day = settled.day

-- name: show
select b.tokens_per_day,
    case when b.day = (clock_timestamp() at time zone 'utc')::date then b.used else 0 end,
    (select coalesce(sum(r.tokens), 0)::bigint from model_reservations r
     where r.tenant_id = b.tenant_id and r.day = (clock_timestamp() at time zone 'utc')::date)
from model_budgets b
where b.tenant_id = %(tenant_id)s

-- name: set
insert into model_budgets (tenant_id, tokens_per_day, day)
values (%(tenant_id)s, %(tokens_per_day)s, (clock_timestamp() at time zone 'utc')::date)
on conflict (tenant_id) do update
set tokens_per_day = excluded.tokens_per_day, updated_at = clock_timestamp()
