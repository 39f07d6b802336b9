-- name: note
insert into sent_events (event_id) select unnest(%(event_ids)s::uuid[]) on conflict do nothing

-- name: pass_over
delete from sent_events where event_id = any(%(event_ids)s::uuid[]) returning event_id

-- name: forget
-- Noted after the relay had passed them.
delete from sent_events where event_id in (
    select event_id from sent_events where sent_at < now() - interval '1 hour'
    order by sent_at limit 1000)
returning 1
