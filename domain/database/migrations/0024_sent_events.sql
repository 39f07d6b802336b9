-- Code since 0012 runs with this.
-- Events whose messages were sent behind their commit, until the relay comes to them and passes them
-- over. Not logged: without a row, messages are sent once more, under the same ids.

create unlogged table sent_events (
    event_id uuid primary key,
    sent_at timestamptz not null default now()
);
grant select, insert, delete on sent_events to qlp_app;
