-- What an intent was submitted with and runs. Rows from before have none until they move or are
-- rebuilt: to make them means to fold their streams, which the readers do for the few they show.

alter table intent_states add column details json;
