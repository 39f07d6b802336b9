-- name: limits
-- All rows of a cursor are read: with 1, the planner does not prefer the plan whose first rows come
-- soonest, by the index of streams, which would read the whole log for each few lanes.
select set_config('statement_timeout', '0', true), set_config('work_mem', '64MB', true),
    set_config('cursor_tuple_fraction', '1', true)

-- name: lanes
-- Streams whole, one after another: a lane's events are read in their order and then sorted.
select stream_id, version, event_id, type, schema_version, data::text
from public.events
where lane >= %(first)s::smallint and lane < %(end)s::smallint
order by stream_id, version

-- name: of_streams
select stream_id, version, event_id, type, schema_version, data::text
from public.events
where stream_id = any(%(stream_ids)s)
order by stream_id, version
