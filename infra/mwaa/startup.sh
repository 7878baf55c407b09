#!/bin/sh
# MWAA runs this on every worker, scheduler and web server before Airflow starts: it says where the bundle's parts lie.
# `make mwaa` puts it beside the bundle; infra/mwaa/README.md says what to upload and what to set.
here=/usr/local/airflow/dags
if [ -f "$here/.env" ]; then
  set -a
  . "$here/.env" # the settings of .env.example
  set +a
fi
# DSNs hold passwords: .env may name their secrets instead (CUSTOMER_DSN_SECRET_ID, CUSTOMER_SNAPSHOT_DSN_SECRET_ID).
for name in CUSTOMER_DSN CUSTOMER_SNAPSHOT_DSN; do
  id=$(printenv "${name}_SECRET_ID") || continue
  value=$(python3 -c 'import boto3, sys
print(boto3.client("secretsmanager").get_secret_value(SecretId=sys.argv[1])["SecretString"])' "$id") ||
    { echo "$name: the secret $id has no value yet" >&2; continue; }
  export "$name=$value"
done
export DBT_PROJECT_DIR=$here/dbt_project
export DBT_PROFILES_DIR=$here
export DBT_MANIFEST=$here/manifest.json
export DO_NOT_TRACK=1
# It would read the metadata database for each DAG that is rendered.
export AIRFLOW__COSMOS__ENABLE_CACHE_DBT_YAML_SELECTORS=False
# A copy of a producer's results for its next try, written anew after each node of dbt: a producer has one try.
export AIRFLOW__COSMOS__ENABLE_WATCHER_RELIABLE_RETRY=False
# No AIRFLOW__COSMOS__DBT_DOCS_PROJECTS: Cosmos would serve dbt's docs without a login (astronomer/astronomer-cosmos #2972).
