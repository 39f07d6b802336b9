-- name: add
-- Chunks that are stored already are kept; chunks that would exceed the run's limit are dropped.
insert into run_output (run_id, seq, stream, text)
select run_id, seq, stream, text
from (
    select given.*, coalesce(known.characters, 0) + sum(length(given.text))
        over (partition by given.run_id order by given.seq) as characters
    from unnest(%(run_ids)s::uuid[], %(seqs)s::integer[], %(streams)s::text[], %(texts)s::text[])
        as given (run_id, seq, stream, text)
    left join (
        select run_id, sum(length(text)) as characters from run_output
        where run_id = any(%(run_ids)s) group by run_id
    ) known using (run_id)
    where not exists (select from run_output o where o.run_id = given.run_id and o.seq = given.seq)
) fresh
where characters <= %(limit)s
order by run_id, seq
on conflict do nothing

-- name: after
select seq, stream, text from run_output
where run_id = %(run_id)s and seq > %(after)s
order by seq
limit %(limit)s

-- name: progress
select w.run_id,
    coalesce((select max(o.seq) from run_output o where o.run_id = w.run_id), -1),
    exists (select from events e where e.command_id in (w.finished, w.cancelled))
from unnest(%(run_ids)s::uuid[], %(finished)s::uuid[], %(cancelled)s::uuid[])
    as w (run_id, finished, cancelled)

-- name: purge
with old as (
    select run_id, seq from run_output
    where recorded_at < now() - make_interval(days => %(days)s)
    order by recorded_at
    limit %(limit)s
)
delete from run_output o using old where o.run_id = old.run_id and o.seq = old.seq
returning 1
