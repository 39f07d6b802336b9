-- name: add
insert into usage_daily as known (tenant_id, day, submitted, succeeded, failed, cancelled, runs,
    sandbox_ms, cpu_ms, output_bytes, tokens, latency)
values (%(tenant_id)s, %(day)s, %(submitted)s, %(succeeded)s, %(failed)s, %(cancelled)s, %(runs)s,
    %(sandbox_ms)s, %(cpu_ms)s, %(output_bytes)s, %(tokens)s, %(latency)s::bigint[])
on conflict (tenant_id, day) do update
set submitted = known.submitted + excluded.submitted,
    succeeded = known.succeeded + excluded.succeeded,
    failed = known.failed + excluded.failed,
    cancelled = known.cancelled + excluded.cancelled,
    runs = known.runs + excluded.runs,
    sandbox_ms = known.sandbox_ms + excluded.sandbox_ms,
    cpu_ms = known.cpu_ms + excluded.cpu_ms,
    output_bytes = known.output_bytes + excluded.output_bytes,
    tokens = known.tokens + excluded.tokens,
    latency = array(
        select a + b from unnest(known.latency, excluded.latency) with ordinality as t (a, b, n)
        order by n
    )
