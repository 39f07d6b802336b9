-- name: one_upload_at_a_time
select pg_advisory_xact_lock(hashtextextended('artifacts-' || %(run_id)s::uuid::text, 0))

-- name: uploaded
select coalesce(sum(size), 0)::bigint from artifact_uploads
where run_id = %(run_id)s and sha256 <> %(sha256)s

-- name: add_upload
insert into artifact_uploads (run_id, sha256, size) values (%(run_id)s, %(sha256)s, %(size)s)
on conflict do nothing

-- name: store
insert into artifact_contents (tenant_id, sha256, content)
values (%(tenant_id)s, %(sha256)s, %(content)s)
on conflict (tenant_id, sha256) do update set stored_at = now()

-- name: protect
-- Those that are stored; the new time protects them from deletion until they are claimed.
update artifact_contents set stored_at = now()
where tenant_id = %(tenant_id)s and sha256 = any(%(sha256s)s)
returning sha256

-- name: claim
insert into artifact_claims (tenant_id, sha256, run_id, intent_id)
select %(tenant_id)s, sha256, %(run_id)s, %(intent_id)s
from unnest(%(sha256s)s::bytea[]) as given (sha256)
on conflict do nothing

-- name: forget_uploads
delete from artifact_uploads where run_id = %(run_id)s

-- name: available
select sha256 from artifact_contents
where tenant_id = %(tenant_id)s and sha256 = any(%(sha256s)s)

-- name: content
select content from artifact_contents where tenant_id = %(tenant_id)s and sha256 = %(sha256)s

-- name: purge_contents
with old as (
    select c.tenant_id, c.sha256 from artifact_contents c
    where c.stored_at < now() - interval '1 day'
        and not exists (select from artifact_claims a
                        where a.tenant_id = c.tenant_id and a.sha256 = c.sha256
                            and a.claimed_at > now() - make_interval(days => %(days)s))
    order by c.stored_at
    limit %(limit)s
    for update of c skip locked
)
delete from artifact_contents c using old
where c.tenant_id = old.tenant_id and c.sha256 = old.sha256
returning 1

-- name: purge_uploads
delete from artifact_uploads where uploaded_at < now() - interval '1 day'

-- name: purge_claims
delete from artifact_claims where claimed_at < now() - make_interval(days => %(days)s)
