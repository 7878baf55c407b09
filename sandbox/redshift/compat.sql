-- What PostgreSQL 16 lacks of Redshift, as far as dbt-redshift and this project ask for it. A superuser loads it once into
-- the warehouse's database, as one transaction. Pages are those of Amazon Redshift's Database Developer Guide.
--
-- Schema rs comes before pg_catalog in search_path, so that a function here hides PostgreSQL's own of that name.
-- rs_views holds the functions behind late-binding views: in a schema of its own dbt does not list them as relations.
create schema rs;
create schema rs_info;
create schema rs_views;
grant usage on schema rs, rs_info, rs_views to public;
grant create on schema rs_views to public;
set allow_system_table_mods = on;

---------- functions

create function rs.version() returns varchar language sql immutable as
$$ select 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.99999'::varchar $$;

create function rs.getdate() returns timestamp language sql stable as
$$ select date_trunc('second', clock_timestamp() at time zone 'UTC') $$;

-- REGEXP_REPLACE replaces every occurrence; PostgreSQL's the first one.
create function rs.regexp_replace(text, text, text) returns varchar language sql immutable strict as
$$ select pg_catalog.regexp_replace($1, $2, $3, 'g')::varchar $$;

create function rs.from_hex(text) returns bytea language sql immutable strict as $$ select decode($1, 'hex') $$;

create function rs.to_varbyte(text, text) returns bytea language plpgsql immutable strict as $$
begin
    if lower($2) in ('utf8', 'utf-8') then return convert_to($1, 'UTF8'); end if;
    if lower($2) in ('hex', 'binary') then return decode($1, 'hex'); end if;
    raise exception 'to_varbyte: the format % is not known here', $2;
end $$;

-- SHA2 is documented for strings. Of VARBYTE nothing is documented: here it is what the project hopes for.
create function rs.sha2(value bytea, bits int) returns varchar language plpgsql immutable strict as $$
begin
    if bits not in (0, 256) then raise exception 'sha2: % bits are not known here', bits; end if;
    return encode(sha256(value), 'hex');
end $$;
create function rs.sha2(value text, bits int) returns varchar language sql immutable strict as
$$ select rs.sha2(convert_to(value, 'UTF8'), bits) $$;

-- EXTRACT gives an integer, and a double of a timestamptz (r_EXTRACT_function); PostgreSQL's gives a numeric.
create function rs.extract_part(text, timestamp) returns int language sql immutable strict as $$ select trunc(date_part($1, $2))::int $$;
create function rs.extract_part(text, date) returns int language sql immutable strict as $$ select trunc(date_part($1, $2))::int $$;
create function rs.extract_part(text, timestamptz) returns float8 language sql stable strict as $$ select date_part($1, $2) $$;

-- VARCHAR(n) holds n bytes (r_Character_types), PostgreSQL's n characters: the check of each such column.
create function rs.fits(value text, bytes int) returns boolean language plpgsql immutable as $$
begin
    if octet_length(value) > bytes then
        raise exception using errcode = '22001', message = format('value too long for type character varying(%s)', bytes);
    end if;
    return true;
end $$;

-- A session may end those of its own user; PostgreSQL sees one user in all of them, the proxy's.
create function rs.pg_terminate_backend(pid int) returns boolean language sql security definer as
$$ select pg_catalog.pg_terminate_backend(pid) $$;

---------- users

-- How each user logs in and what holds in their sessions. A user without a digest logs in by GetCredentials alone.
create table rs.users (
    usename text primary key,
    digest text, -- lower-case hex of sha256(password || salt)
    salt text, -- hex
    session_timeout int, -- seconds
    statement_timeout int, -- milliseconds
    sees_all boolean not null default false -- SYSLOG ACCESS UNRESTRICTED
);

-- A null option leaves what is known.
create function rs.set_user(
    name text, new_digest text, new_salt text, new_session_timeout int, new_statement_timeout int, new_sees_all boolean
) returns void language plpgsql as $$
begin
    if not exists (select from pg_roles where rolname = name and rolcanlogin) then
        raise exception using errcode = '42704', message = format('user "%s" does not exist', name);
    end if;
    insert into rs.users values (name, new_digest, new_salt, new_session_timeout, new_statement_timeout, coalesce(new_sees_all, false))
    on conflict (usename) do update set
        digest = coalesce(new_digest, users.digest),
        salt = coalesce(new_salt, users.salt),
        session_timeout = coalesce(new_session_timeout, users.session_timeout),
        statement_timeout = coalesce(new_statement_timeout, users.statement_timeout),
        sees_all = coalesce(new_sees_all, users.sees_all);
end $$;

create function rs.create_user(name text, timeout int, sees_all boolean) returns void language plpgsql as $$
begin
    execute format('create role %I login', name);
    perform rs.set_user(name, null, null, timeout, null, sees_all);
end $$;

create function rs.sees_all() returns boolean language sql stable security definer as $$
    select rolsuper or exists (select from rs.users where usename = session_user and sees_all)
    from pg_roles where rolname = session_user
$$;

---------- external schemas: tables that the database's own catalogue does not list

create table rs.external_schemas (schemaname text primary key, databasename text not null, iam_role text not null);
create table rs.external_columns (schemaname text, tablename text, columnname text, external_type text, columnnum int);
create table rs.external_versions (schemaname text, tablename text, version text); -- of the lake's table that was copied
grant select on rs.external_schemas, rs.external_columns to public;

create function rs.create_external_schema(name text, glue_database text, iam_role text) returns void language plpgsql security definer as $$
begin
    if not has_database_privilege(session_user, current_database(), 'create') then
        raise exception using errcode = '42501', message = format('permission denied for database %s', current_database());
    end if;
    if not exists (select from rs.external_schemas where schemaname = name) then
        execute format('create schema %I authorization %I', name, session_user);
        insert into rs.external_schemas values (name, glue_database, iam_role);
    end if;
end $$;

create view pg_catalog.svv_external_schemas as
select 1::int as esoid, 1 as eskind, schemaname, 10 as esowner, databasename, '{"IAM_ROLE":"' || iam_role || '"}' as esoptions from rs.external_schemas;
create view pg_catalog.svv_external_tables as select distinct schemaname, tablename from rs.external_columns;
create view pg_catalog.svv_external_columns as
select schemaname, tablename, columnname, external_type, columnnum, 0 as part_key from rs.external_columns;

---------- late-binding views: they stand on a function that runs their text when asked, so that nothing depends on their tables

create table rs.late_binding_columns (view_oid oid, col_name name, col_type varchar, ordinal_position int);
grant select, insert, delete on rs.late_binding_columns to public;

create function rs.create_late_binding_view(name text, query text) returns void language plpgsql as $$
declare
    columns text;
    behind text := 'view_' || md5(name || clock_timestamp()::text);
    dead regprocedure;
begin
    execute 'create temporary view rs_probe as ' || query;
    select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum) into columns
    from pg_attribute where attrelid = 'pg_temp.rs_probe'::regclass and attnum > 0;
    drop view pg_temp.rs_probe;
    execute format(
        'create function rs_views.%I() returns table (%s) language plpgsql security definer as $f$ begin return query execute %L; end $f$',
        behind, columns, query
    );
    execute format('create view %s as select * from rs_views.%I()', name, behind);
    insert into rs.late_binding_columns
    select attrelid, attname, format_type(atttypid, atttypmod), attnum from pg_attribute where attrelid = name::regclass and attnum > 0;
    -- What dropped views have left.
    delete from rs.late_binding_columns where view_oid not in (select oid from pg_class);
    for dead in
        select p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'rs_views'::regnamespace and p.proowner = (select oid from pg_roles where rolname = current_user)
        and not exists (select from pg_depend d where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid)
    loop
        execute 'drop function ' || dead;
    end loop;
end $$;

create view rs.late_binding_cols as
select n.nspname as view_schema, c.relname as view_name, l.col_name, l.col_type, l.ordinal_position
from rs.late_binding_columns l join pg_class c on c.oid = l.view_oid join pg_namespace n on n.oid = c.relnamespace;
grant select on rs.late_binding_cols to public;

---------- catalogues without external tables, and without what this file adds

create function rs.is_hidden(schema_name text) returns boolean language sql stable as $$
    select schema_name in ('rs', 'rs_info', 'rs_views') or exists (select from rs.external_schemas where schemaname = schema_name)
$$;
create view rs_info.tables as select * from information_schema.tables where not rs.is_hidden(table_schema);
create view rs_info.views as select * from information_schema.views where not rs.is_hidden(table_schema);
create view rs_info.columns as
select c.* from information_schema.columns c where not rs.is_hidden(table_schema)
and not exists (select from rs.late_binding_cols l where l.view_schema = c.table_schema and l.view_name = c.table_name);
create view rs_info.pg_class as
select c.* from pg_catalog.pg_class c where not rs.is_hidden(relnamespace::regnamespace::text)
and not exists (select from rs.late_binding_columns l where l.view_oid = c.oid);
grant select on all tables in schema rs_info to public;

---------- system views

create view pg_catalog.svv_roles as
select oid::int as role_id, rolname::text as role_name, 'admin'::text as role_owner from pg_roles where not rolcanlogin and rolname !~ '^pg_';

-- "Superusers and users with SYSLOG ACCESS UNRESTRICTED can see all rows. Other users can see only identities to which
-- they have access or for which they are the owner" (r_SVV_RELATION_PRIVILEGES).
create view pg_catalog.svv_relation_privileges as
select
    n.nspname::text as namespace_name, c.relname::text as relation_name, a.privilege_type::text,
    coalesce(r.oid, 0)::int as identity_id, coalesce(r.rolname, 'public')::text as identity_name,
    case when r.oid is null then 'public' when r.rolcanlogin then 'user' else 'role' end::text as identity_type,
    a.is_grantable as admin_option
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join aclexplode(c.relacl) a
left join pg_roles r on r.oid = a.grantee
where rs.sees_all() or r.oid is null or pg_has_role(current_user, r.oid, 'member');

create view pg_catalog.sys_query_detail as
select 0::oid as table_id, 'insert'::text as step_name, now()::timestamp as start_time where false;

create view pg_catalog.svv_table_info as
select
    current_database()::text as "database", schemaname::text as "schema", 0 as table_id, tablename::text as "table", 'Y'::text as encoded,
    'AUTO(ALL)'::text as diststyle, null::text as sortkey1, 256 as max_varchar, null::text as sortkey1_enc, 0 as sortkey_num,
    1::bigint as size, 0::numeric as pct_used, 0 as empty, null::numeric as unsorted, 0::numeric as stats_off, 0::numeric as tbl_rows,
    null::numeric as skew_sortkey1, null::numeric as skew_rows
from pg_tables where schemaname not in ('pg_catalog', 'information_schema') and not rs.is_hidden(schemaname);

grant select on pg_catalog.svv_external_schemas, pg_catalog.svv_external_tables, pg_catalog.svv_external_columns, pg_catalog.svv_roles,
    pg_catalog.svv_relation_privileges, pg_catalog.sys_query_detail, pg_catalog.svv_table_info to public;
