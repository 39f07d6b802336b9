-- name: ensure_tenant
insert into tenants (id) values (%(id)s) on conflict do nothing

-- name: tenant_exists
select exists (select from tenants where id = %(id)s)

-- name: create
insert into api_keys (id, tenant_id, role, secret_sha256, label)
values (%(id)s, %(tenant_id)s, %(role)s, %(secret_sha256)s, %(label)s)

-- name: find
select tenant_id, role, secret_sha256 from api_keys
where id = %(id)s and revoked_at is null

-- name: revoke
update api_keys set revoked_at = now() where id = %(id)s and revoked_at is null returning id

-- name: list
select id, tenant_id, role, label, created_at, revoked_at from api_keys
order by created_at, id
limit %(limit)s
