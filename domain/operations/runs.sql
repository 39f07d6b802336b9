-- name: running
-- Every unfinished intent has an expected_by, and the index on it holds no others.
select id, tenant_id, status, updated_at, outcome->>'run_id', outcome->>'verdict',
    outcome->>'runtime'
from intent_states
where expected_by is not null and status = 'running'
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
order by updated_at desc
limit %(limit)s

-- name: recent
select id, tenant_id, status, updated_at, outcome->>'run_id', outcome->>'verdict',
    outcome->>'runtime'
from intent_states
where (status = 'running' or outcome->>'run_id' is not null)
    and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
order by updated_at desc
limit %(limit)s
