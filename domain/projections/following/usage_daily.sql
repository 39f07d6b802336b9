-- name: add
insert into usage_daily as known (tenant_id, day, submitted, succeeded, failed, cancelled, runs,
    sandbox_ms, cpu_ms, output_bytes, artifact_bytes, tokens, model_calls,
    model_cost_microusd, latency)
values (%(tenant_id)s, %(day)s, %(submitted)s, %(succeeded)s, %(failed)s, %(cancelled)s, %(runs)s,
    %(sandbox_ms)s, %(cpu_ms)s, %(output_bytes)s, %(artifact_bytes)s, %(tokens)s,
    %(model_calls)s, %(model_cost_microusd)s, %(latency)s::bigint[])
on conflict (tenant_id, day) do update
set submitted = known.submitted + excluded.submitted,
    succeeded = known.succeeded + excluded.succeeded,
    failed = known.failed + excluded.failed,
    cancelled = known.cancelled + excluded.cancelled,
    runs = known.runs + excluded.runs,
    sandbox_ms = known.sandbox_ms + excluded.sandbox_ms,
    cpu_ms = known.cpu_ms + excluded.cpu_ms,
    output_bytes = known.output_bytes + excluded.output_bytes,
    artifact_bytes = known.artifact_bytes + excluded.artifact_bytes,
    tokens = known.tokens + excluded.tokens,
    model_calls = known.model_calls + excluded.model_calls,
    model_cost_microusd = known.model_cost_microusd + excluded.model_cost_microusd,
    latency = array(
        select a + b from unnest(known.latency, excluded.latency) with ordinality as t (a, b, n)
        order by n
    )
