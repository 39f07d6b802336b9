-- Code since 0012 runs with this.
-- Whoever verifies the log must know which positions have been given out.
grant select on sequence events_position_seq to qlp_app;
