-- name: owned
-- Tables that the current role does not own, with their owners.
select c.relname, pg_get_userbyid(c.relowner)
from pg_class c
where c.oid = any(%(tables)s::text[]::regclass[])
    and not pg_has_role(current_user, c.relowner, 'USAGE')

-- name: table_ddl
-- LIKE copies columns, defaults, checks and statistics, but not owner, grants and storage options.
select statement from (
    select 1 as step, format('create table %%I.%%I (like public.%%I including all excluding indexes)%%s',
        %(schema)s::text, c.relname, c.relname,
        ' with (' || array_to_string(c.reloptions, ', ') || ')') as statement
    from pg_class c where c.oid = %(table)s::text::regclass and c.reloptions is not null
    union all
    select 1, format('create table %%I.%%I (like public.%%I including all excluding indexes)',
        %(schema)s::text, c.relname, c.relname)
    from pg_class c where c.oid = %(table)s::text::regclass and c.reloptions is null
    union all
    select 2, format('alter table %%I.%%I owner to %%I', %(schema)s::text, c.relname,
        pg_get_userbyid(c.relowner))
    from pg_class c where c.oid = %(table)s::text::regclass
    union all
    select 3, format('grant %%s on %%I.%%I to %%s%%s', a.privilege_type, %(schema)s::text, c.relname,
        case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
        case when a.is_grantable then ' with grant option' else '' end)
    from pg_class c cross join aclexplode(c.relacl) a
    where c.oid = %(table)s::text::regclass and a.grantee <> c.relowner
) ddl
order by step

-- name: index_ddl
-- With the same names, which LIKE would not keep; none if the copy has indexes already.
select statement from (
    select 1 as step, i.indexrelid::bigint as n, format('create %%sindex %%I on %%I.%%I%%s',
        case when i.indisunique then 'unique ' else '' end, x.relname, %(schema)s::text, c.relname,
        substr(pg_get_indexdef(i.indexrelid), strpos(pg_get_indexdef(i.indexrelid), ' USING ')))
        as statement
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    join pg_class x on x.oid = i.indexrelid
    where i.indrelid = %(table)s::text::regclass
    union all
    select 2, o.conindid::bigint, format('alter table %%I.%%I add constraint %%I %%s using index %%I',
        %(schema)s::text, c.relname, o.conname,
        case o.contype when 'p' then 'primary key' else 'unique' end, x.relname)
    from pg_constraint o
    join pg_class c on c.oid = o.conrelid
    join pg_class x on x.oid = o.conindid
    where o.conrelid = %(table)s::text::regclass and o.contype in ('p', 'u')
) ddl
where not exists (
    select from pg_index i join pg_class c on c.oid = i.indrelid
    where c.relnamespace = %(schema)s::text::regnamespace
        and c.relname = (select relname from pg_class where oid = %(table)s::text::regclass)
)
order by step, n

-- name: view_ddl
-- The definition of every view on one of the tables.
select format('create or replace view %%I.%%I%%s as %%s', n.nspname, v.relname,
    coalesce(' with (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
from pg_class v
join pg_namespace n on n.oid = v.relnamespace
where v.relkind = 'v' and v.oid in (
    select r.ev_class
    from pg_depend d join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
    where d.refclassid = 'pg_class'::regclass
        and d.refobjid = any(%(tables)s::text[]::regclass[])
)
order by v.oid

-- name: create_schema
create schema {schema}

-- name: drop_schema
drop schema if exists {schema} cascade

-- name: parked_table
create table {schema}.parked_streams (like public.parked_streams including all)

-- name: lock_table
lock table public.{table} in access exclusive mode

-- name: move_table
alter table {origin}.{table} set schema {schema}

-- name: analyze_table
analyze {schema}.{table}

-- name: drop_empty_schema
drop schema {schema}

-- name: drop_table
drop table {schema}.{table}

-- name: search_shadow
set local search_path = {schema}, public

-- name: search_public
set local search_path = public
