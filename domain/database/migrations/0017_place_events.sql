-- Code since 0012 runs with this.
-- Outside of a transaction: it makes many short ones, and goes on where it has stopped.
call place_events();
