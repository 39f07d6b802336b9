-- Code since 0012 runs with this.
-- Outside of a transaction: nobody waits for an index that is built so. It waits for transactions that
-- are open when it begins.

-- An attempt that broke off leaves an index that is not valid.
drop index concurrently if exists events_lane;

create unique index concurrently events_lane on events (lane, lane_position);

drop index concurrently if exists events_unplaced;

-- In the order in which followers have read them.
create index concurrently events_unplaced on events
    (unplaced_lane(stream_id), transaction_id, position) where lane_position is null;
