-- name: upsert
insert into intent_states (id, tenant_id, version, status, user_input, text_sha256, language,
    created_at, updated_at, expected_by, completed_at, reused_from, details, outcome)
values (%(id)s, %(tenant_id)s, %(version)s, %(status)s, %(user_input)s, %(text_sha256)s,
    %(language)s, %(created_at)s, %(updated_at)s, %(expected_by)s, %(completed_at)s,
    %(reused_from)s, %(details)s::json, %(outcome)s::json)
on conflict (id) do update
set version = excluded.version,
    status = excluded.status,
    user_input = excluded.user_input,
    text_sha256 = excluded.text_sha256,
    language = excluded.language,
    updated_at = excluded.updated_at,
    expected_by = excluded.expected_by,
    completed_at = excluded.completed_at,
    reused_from = excluded.reused_from,
    details = excluded.details,
    outcome = excluded.outcome
where intent_states.version < excluded.version

-- name: get
select id, tenant_id, version, status, user_input, text_sha256, language, created_at, updated_at,
    expected_by, completed_at, reused_from, details, outcome
from intent_states
where id = %(id)s and tenant_id = %(tenant_id)s

-- name: list
select id, tenant_id, version, status, user_input, text_sha256, language, created_at, updated_at,
    expected_by, completed_at, reused_from, details, outcome
from intent_states
where tenant_id = %(tenant_id)s
    and (created_at, id) < (%(before_created_at)s, %(before_id)s)
    and created_at >= %(created_after)s and created_at < %(created_before)s
order by created_at desc, id desc
limit %(limit)s

-- name: list_by_status
select id, tenant_id, version, status, user_input, text_sha256, language, created_at, updated_at,
    expected_by, completed_at, reused_from, details, outcome
from intent_states
where tenant_id = %(tenant_id)s and status = %(status)s
    and (created_at, id) < (%(before_created_at)s, %(before_id)s)
    and created_at >= %(created_after)s and created_at < %(created_before)s
order by created_at desc, id desc
limit %(limit)s

-- name: versions
select id, version, status from intent_states where id = any(%(ids)s)

-- name: latest_solved
select id from intent_states
where tenant_id = %(tenant_id)s and text_sha256 = %(text_sha256)s and status = 'succeeded'
    and reused_from is null
order by completed_at desc
limit 1

-- name: claim_stalled
-- The row locks separate two sweeps that run at the same time; the condition in the upsert
-- separates two in such quick succession that the later one does not see the other's claim yet.
with stalled as (
    select s.id, s.tenant_id, s.version
    from intent_states s
    left join intent_recovery r on r.intent_id = s.id
    where s.expected_by < %(stalled_before)s
        and (r.intent_id is null or r.version < s.version or r.next_attempt_at <= now())
    order by coalesce(r.next_attempt_at, s.expected_by)
    limit %(limit)s
    for update of s skip locked
), claimed as (
    insert into intent_recovery as r (intent_id, version, attempts, next_attempt_at)
    select id, version, 1, now() + least(%(base)s * 2, %(longest)s) from stalled
    on conflict (intent_id) do update
    set version = excluded.version,
        attempts = case when r.version < excluded.version then 1 else r.attempts + 1 end,
        next_attempt_at = case when r.version < excluded.version then excluded.next_attempt_at
            else now() + least(%(base)s * power(2, least(r.attempts + 1, 20)), %(longest)s) end
    where r.version < excluded.version or r.next_attempt_at <= now()
    returning r.intent_id, r.version, r.attempts
)
select claimed.intent_id, stalled.tenant_id, claimed.version, claimed.attempts
from claimed join stalled on stalled.id = claimed.intent_id

-- name: release_waiting
-- Attempts are counted from one again if the intent stalls later.
update intent_recovery
set attempts = 0, next_attempt_at = now() + least(%(base)s * 2, interval '15 minutes')
where intent_id = any(%(ids)s)

-- name: forget_recovered
-- Claims of intents that have ended or no longer exist.
delete from intent_recovery where intent_id in (
    select r.intent_id from intent_recovery r
    where r.next_attempt_at < now() - interval '1 day'
        and not exists (select from intent_states s
                        where s.id = r.intent_id and s.expected_by is not null)
    limit %(limit)s
) returning 1
