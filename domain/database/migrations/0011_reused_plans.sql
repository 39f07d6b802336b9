-- Whose plan an intent ran: a program that was made for another text is no answer to its own. Taken
-- from the text of the events, which no odd character in a program can keep from being read.

alter table intent_states add column reused_from uuid;

update intent_states s set reused_from = p.reused_from
from (
    select substr(stream_id, 8) as id,
        substring(data::text from '"reused_from":\s*"([0-9a-f-]{36})"')::uuid as reused_from
    from events
    where type = 'IntentPlanned' and stream_id like 'intent-%'
) p
where p.id = s.id::text and p.reused_from is not null;

drop index if exists intent_states_solved;
create index intent_states_solved on intent_states (tenant_id, text_sha256, completed_at desc)
    where status = 'succeeded' and text_sha256 is not null and reused_from is null;
