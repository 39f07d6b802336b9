-- name: add
insert into error_patterns as known (tenant_id, code, cause, failures, first_seen, last_seen,
    example_intent_id)
values (%(tenant_id)s, %(code)s, %(cause)s, %(count)s, %(first_seen)s, %(last_seen)s, %(example)s)
on conflict (tenant_id, code, cause) do update
set failures = known.failures + excluded.failures,
    first_seen = least(known.first_seen, excluded.first_seen),
    last_seen = greatest(known.last_seen, excluded.last_seen),
    example_intent_id = case
        when (excluded.first_seen, excluded.example_intent_id)
            < (known.first_seen, known.example_intent_id)
        then excluded.example_intent_id else known.example_intent_id end
