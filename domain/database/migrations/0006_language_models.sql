-- What language models take, per tenant and day; `tokens` has been there since the table was made.
alter table usage_daily add column model_calls bigint not null default 0;
alter table usage_daily add column model_cost_microusd bigint not null default 0;
