-- name: by_status
select s.status, count(*)
from intent_states s
where (%(ids)s::uuid[] is null or s.id = any(%(ids)s))
    and (%(tenant)s::text is null or s.tenant_id = %(tenant)s)
    and (%(status)s::text is null or s.status = %(status)s)
    and (%(language)s::text is null or s.language = %(language)s)
    and (%(code_marker)s::text is null or strpos(s.outcome::text, %(code_marker)s) > 0)
    and (%(since)s::timestamptz is null or s.created_at >= %(since)s)
    and (%(until)s::timestamptz is null or s.created_at < %(until)s)
group by s.status
order by s.status

-- name: select
select s.id, s.tenant_id, s.status, s.version, s.created_at
from intent_states s
where (%(ids)s::uuid[] is null or s.id = any(%(ids)s))
    and (%(tenant)s::text is null or s.tenant_id = %(tenant)s)
    and (%(status)s::text is null or s.status = %(status)s)
    and (%(language)s::text is null or s.language = %(language)s)
    and (%(code_marker)s::text is null or strpos(s.outcome::text, %(code_marker)s) > 0)
    and (%(since)s::timestamptz is null or s.created_at >= %(since)s)
    and (%(until)s::timestamptz is null or s.created_at < %(until)s)
order by s.created_at, s.id
limit %(limit)s
