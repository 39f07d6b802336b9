-- Code since 0012 runs with this.
-- Every event has its place from now on. What gave places to earlier ones goes.

-- Reads no rows, as a constraint says so already.
alter table events
    alter column lane set not null,
    alter column lane_position set not null,
    alter column chain_digest set not null;
alter table events drop constraint events_placed;

drop trigger events_immutable on events;
drop trigger events_immutable_but_for_lanes on events;
create trigger events_immutable before update or delete on events
    for each row execute function refuse_change();

drop index events_unplaced;
drop procedure place_events();
drop function place_next(smallint, integer);
drop function unplaced_lane(text);
