-- name: of
select defaults, ceilings, updated_at from tenant_limits where tenant_id = %(tenant_id)s

-- name: set
insert into tenant_limits (tenant_id, defaults, ceilings)
values (%(tenant_id)s, %(defaults)s, %(ceilings)s)
on conflict (tenant_id) do update
set defaults = excluded.defaults, ceilings = excluded.ceilings, updated_at = now()
