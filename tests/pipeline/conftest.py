"""Fixtures of the pipeline tests."""

from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy import site
from sandbox import customer_app, disney_api, postgres
from sandbox.postgres import Database, Servers
from tests.pipeline.product import Pipeline, new_pipeline

PERSONAL = ("nome", "email", "cpf", "telefone", "cep", "observacoes")


@pytest.fixture
def pipeline(tmp_path: Path, customer: Database) -> Pipeline:
    """A lake of the test's own over a database of its own; nothing has landed yet."""
    return new_pipeline(tmp_path, customer)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> Pipeline:
    """A lake of made-up people, their changes and changes that no model can read: built, tested, documented.

    `folder / "personal values"` lists all that must not be found in the clear, a line each.
    """
    folder = tmp_path_factory.mktemp("published")
    database = postgres.create_database(servers, "published")
    customer_app.create_table(database.app_dsn)
    customer_app.seed_people(database.app_dsn, 300, seed=1)
    people = personal_values(database)
    with disney_api.DisneyApi() as api:
        pipeline = new_pipeline(folder, database, DISNEY_API_URL=api.url)
        pipeline.loaders("disney")
    pipeline.loaders("users")
    customer_app.write_changes(database.app_dsn, changes=200, seed=2)
    people |= personal_values(database)
    pipeline.loaders("users")
    spoil(pipeline)
    (folder / "personal values").write_text("\n".join(sorted(people)))
    pipeline.dbt("build")
    pipeline.dbt("source", "freshness")
    pipeline.dbt("docs", "generate", "--static")
    site.annotate(folder / "target")
    return pipeline


def personal_values(database: Database) -> set[str]:
    """Each personal value as the table has it, and the numbers also as their digits alone."""
    values = set()
    with psycopg.connect(database.app_dsn) as app:
        for row in app.execute(f"SELECT {', '.join(PERSONAL)} FROM usuarios"):
            values |= {line for value in row if value for line in value.splitlines() if len(line) > 4}
            values |= {"".join(filter(str.isdigit, value)) for value in row[2:4] if value}
    return values


def spoil(pipeline: Pipeline) -> None:
    """Land copies of good changes whose documents are cut short or whose values do not cast."""
    landed = sorted((pipeline.folder / "lake/raw/customer/usuarios").glob("load_date=2*/*.parquet"))[-1]
    table = pq.read_table(landed, partitioning=None)
    rows = [row for row in table.to_pylist() if row["after"]][:20]
    for number, row in enumerate(rows):
        row["change_seq"] += 1_000_000
        row["after"] = row["after"][:-9] if number % 2 else row["after"].replace('"id":"', '"id":"x')
    pq.write_table(pa.Table.from_pylist(rows, table.schema), landed.with_name("spoiled.parquet"))
