-- What the warehouse must hold before dbt builds refined in it. `make deploy` runs this as the namespace's administrator
-- each time it has brought up the stack `warehouse` (infra/warehouse.py): what is there already is left alone.
--
-- A statement below "unless" is passed over where that query has a row: Redshift knows no "if not exists" for users and
-- roles. IAMR:… is how Redshift names who comes by an IAM role; such a user has no password.

-- dbt comes by Airflow's role. It owns refined, and reads the lake and the masking key through the external schemas.
-- unless: select 1 from pg_user where usename = 'IAMR:lakehouse-${environment}-airflow'
create user "IAMR:lakehouse-${environment}-airflow" password disable;

-- To revoke what a reader no longer has, dbt has to see the grants, and svv_relation_privileges shows other identities to
-- nobody else. It also shows others' query texts: no more than dbt may read itself, who reads curated and the key.
alter user "IAMR:lakehouse-${environment}-airflow" syslog access unrestricted;

create schema if not exists "refined" authorization "IAMR:lakehouse-${environment}-airflow";

create external schema if not exists "curated"
from data catalog
database 'curated'
iam_role default;

create external schema if not exists "vault"
from data catalog
database 'vault'
iam_role default;

grant usage on schema "curated" to "IAMR:lakehouse-${environment}-airflow";

grant usage on schema "vault" to "IAMR:lakehouse-${environment}-airflow";

-- Who reads refined. dbt grants each table to this role as it builds it (REDSHIFT_READERS). Each reader's sessions are
-- bounded: a transaction that was left open, or a statement that does not end, keeps dbt from replacing the table it has read,
-- and a run of five minutes waits for both in vain. SESSION TIMEOUT is in seconds, statement_timeout in milliseconds.
-- unless: select 1 from svv_roles where role_name = 'analyst'
create role analyst;

grant usage on schema "refined" to role analyst;

-- unless: select 1 from pg_user where usename = 'IAMR:lakehouse-${environment}-analyst'
create user "IAMR:lakehouse-${environment}-analyst" password disable;

alter user "IAMR:lakehouse-${environment}-analyst" session timeout 120;

alter user "IAMR:lakehouse-${environment}-analyst" set statement_timeout to 120000;

grant role analyst to "IAMR:lakehouse-${environment}-analyst";

-- unless: select 1 from pg_user where usename = 'IAMR:lakehouse-${environment}-engineer'
create user "IAMR:lakehouse-${environment}-engineer" password disable;

alter user "IAMR:lakehouse-${environment}-engineer" session timeout 120;

alter user "IAMR:lakehouse-${environment}-engineer" set statement_timeout to 120000;

grant role analyst to "IAMR:lakehouse-${environment}-engineer";

-- Who trains models reads refined.user_features (REDSHIFT_FEATURE_READERS), in SageMaker's notebook.
-- unless: select 1 from svv_roles where role_name = 'data_scientist'
create role data_scientist;

grant usage on schema "refined" to role data_scientist;

-- unless: select 1 from pg_user where usename = 'IAMR:lakehouse-${environment}-notebook'
create user "IAMR:lakehouse-${environment}-notebook" password disable;

alter user "IAMR:lakehouse-${environment}-notebook" session timeout 120;

alter user "IAMR:lakehouse-${environment}-notebook" set statement_timeout to 120000;

grant role data_scientist to "IAMR:lakehouse-${environment}-notebook";

-- Dashboards: QuickSight has a name and a password, of which only a salted digest comes here.
-- unless: select 1 from pg_user where usename = 'quicksight'
create user quicksight password disable;

alter user quicksight password '${dashboard_password}';

alter user quicksight session timeout 120;

alter user quicksight set statement_timeout to 120000;

grant role analyst to quicksight;

-- Else everybody may make tables in it.
revoke create on schema "public" from public;
