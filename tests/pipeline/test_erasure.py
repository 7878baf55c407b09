"""A person is erased while the application writes and the loader lands; nothing brings him back, all others stay."""

import subprocess
import sys
import threading

import psycopg

from sandbox import customer_app
from sandbox.postgres import Database
from tests.pipeline.product import Pipeline
from tests.pipeline.test_live_table import COLUMNS

HIS = ("Zebedeu Quaresma", "Zebedeu.Q@correio.example", "98765432100", "Zebedeu prefere o turno da tarde")
INSERT = "INSERT INTO usuarios (nome, email, cpf, observacoes) VALUES (%s, %s, %s, %s) RETURNING id"
UPSERT = """
    INSERT INTO usuarios (id, nome, email, cpf, observacoes) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET nome = excluded.nome, email = excluded.email, cpf = excluded.cpf,
        observacoes = excluded.observacoes
"""


def holding(pipeline: Pipeline) -> list[str]:
    """The files in which a value of his stands: DuckDB's as bytes and as what its tables say, and raw as text too."""
    texts = [*HIS, HIS[1].lower(), "Zebedeu"]
    dump = pipeline.folder / "dump"
    dump.mkdir(exist_ok=True)
    for schema, name in pipeline.query("select schema_name, table_name from duckdb_tables() where not internal"):
        pipeline.query(f'copy (from "{schema}"."{name}") to \'{dump}/{schema}.{name}.csv\'')
    raw = f"read_parquet('{pipeline.folder}/lake/raw/customer/*/*/*.parquet')"
    pipeline.query(f"copy (select before, after from {raw}) to '{dump}/raw.csv'")
    patterns = [part for text in texts for part in ("-e", text)]
    done = subprocess.run(["grep", "-rlF", "--text", *patterns, pipeline.folder], capture_output=True, text=True)
    return sorted(line.removeprefix(f"{pipeline.folder}/") for line in done.stdout.splitlines())


def test_erased_under_load_and_kept_out(pipeline: Pipeline, customer: Database) -> None:
    pipeline.environment["DBT_TARGET_PATH"] = str(pipeline.folder / "target")
    pipeline.environment["DBT_LOG_PATH"] = str(pipeline.folder / "logs")
    customer_app.seed_people(customer.app_dsn, 200, seed=1)
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        (user_id,) = app.execute(INSERT, HIS).fetchone()
        pipeline.loaders("users")
        app.execute("UPDATE usuarios SET status = 'inativo' WHERE id = %s", [user_id])
        pipeline.loaders("users")
        build(pipeline)
        pipeline.dbt("docs", "generate", "--static")
        assert {"dump/curated.user_changes.csv", "dump/curated.users.csv", "dump/raw.csv"} <= set(holding(pipeline))

        stop = threading.Event()
        writer = threading.Thread(
            target=customer_app.write_changes,
            args=[customer.app_dsn],
            kwargs={"stop": stop, "seed": 2, "per_day": 100 * 86_400},
        )
        lander = threading.Thread(target=land_until, args=[pipeline, stop])
        writer.start()
        lander.start()
        try:
            done = pipeline.loaders("erase", "--user-id", str(user_id))
            assert (done["is_raw_clean"], done["is_finished"], done["new_requests"]) == (True, False, 1)
            app.execute(UPSERT, [user_id, *HIS])  # the application still knows him
        finally:
            stop.set()
            writer.join()
            lander.join()
        build(pipeline)
        done = pipeline.loaders("erase", "--user-id", str(user_id))
        assert (done["is_finished"], done["events"]) == (True, 0)
        assert holding(pipeline) == []

        app.execute(UPSERT, [user_id, *HIS])
        pipeline.loaders("users", "--resnapshot")
        app.execute(UPSERT, [user_id, *HIS])
        pipeline.loaders("users")
        build(pipeline)
        assert pipeline.loaders("erase", "--check")["is_raw_clean"]
        assert holding(pipeline) == []
        incremental = tables(pipeline)
        build(pipeline, "--full-refresh")
        assert tables(pipeline) == incremental
        assert holding(pipeline) == []

        live = app.execute(
            f"SELECT {', '.join(COLUMNS)} FROM usuarios WHERE id <> %s ORDER BY id", [user_id]
        ).fetchall()
        found = pipeline.query(
            f"select {', '.join(COLUMNS.values())} from curated.users where not is_deleted order by 1"
        )
        assert [row[:4] for row in found] == [row[:4] for row in live]
        gone = pipeline.query(f"select is_deleted, op, full_name from curated.users where user_id = {user_id}")
        assert gone == [(True, "e", None)]


def land_until(pipeline: Pipeline, stop: threading.Event) -> None:
    """Run the loader without pause; it may find its lock taken for a moment."""
    command = [sys.executable, "-m", "loaders", "users"]
    while not stop.is_set():
        done = subprocess.run(command, env=pipeline.environment, cwd=pipeline.folder, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr


def build(pipeline: Pipeline, *options: str) -> None:
    models = ["+path:models/refined/customer", "path:models/curated/customer", "--indirect-selection", "buildable"]
    pipeline.dbt("build", "--select", *models, "--exclude-resource-type", "unit_test", *options)


def tables(pipeline: Pipeline) -> dict[str, list[tuple]]:
    """All rows, without what says which of several copies of an event was built."""
    stamps = "'batch_id|load_date|landed_at|row_version'"
    found = pipeline.query(
        "select schema_name, table_name from duckdb_tables() where schema_name in ('curated', 'refined') order by all"
    )
    return {
        name: pipeline.query(
            f"select columns(lambda c: not regexp_full_match(c, {stamps})) from {schema}.{name} order by all"
        )
        for schema, name in found
    }
