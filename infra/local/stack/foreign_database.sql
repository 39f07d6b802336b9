-- name: whose
-- Whether QLP's schema is there, whether there is any table schema_migrations, how many tables.
select coalesce(
        (select count(*) = 2 from pg_attribute
         where attrelid = to_regclass('public.schema_migrations')
             and attname in ('version', 'sha256') and not attisdropped), false)
        and to_regclass('public.events') is not null,
    to_regclass('public.schema_migrations') is not null,
    (select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema')
