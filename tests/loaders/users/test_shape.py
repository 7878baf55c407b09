"""What DDL between two looks leaves in a real server's catalogue, and what is said of it."""

import json
from collections.abc import Iterator

import psycopg
import pytest

from loaders.users import shape
from loaders.users.shape import Shape
from sandbox import postgres
from tests.loaders.users.conftest import Landing, person

PLAIN = (
    "CREATE TYPE humor AS ENUM ('bom', 'ruim')",
    "CREATE TYPE lugar AS (rua text, numero int)",
    "CREATE TABLE t (id int PRIMARY KEY, nome varchar(20), status text, em timestamptz, humores humor[], lugar lugar,"
    " dobro int GENERATED ALWAYS AS (id * 2) STORED)",
    "INSERT INTO t VALUES (1, 'Ana', 'x', now(), '{bom}', '(a,1)')",
    "CREATE PUBLICATION p FOR TABLE ONLY t",
)
PARTITIONED = (
    "CREATE TABLE t (id int PRIMARY KEY, nome text DEFAULT 'x') PARTITION BY RANGE (id)",
    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (id)",
    "CREATE TABLE t2a PARTITION OF t2 FOR VALUES FROM (10) TO (20)",
    "INSERT INTO t VALUES (1), (10)",
    "CREATE PUBLICATION p FOR TABLE t WITH (publish_via_partition_root = true)",
)
STANDALONE = "CREATE TABLE t3 (id int NOT NULL, nome text DEFAULT 'x')"


@pytest.fixture
def connection(customer_database: postgres.Database) -> Iterator[psycopg.Connection]:
    """The application, in a schema of the test's own that is dropped with its publication."""
    with psycopg.connect(customer_database.app_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shapes")
        connection.execute("SET search_path = shapes")
        yield connection
        connection.execute("DROP PUBLICATION IF EXISTS p")
        connection.execute("DROP SCHEMA shapes CASCADE")


def look(connection: psycopg.Connection) -> Shape:
    """The shape of the table t and its publication p, as it comes back from the state."""
    table, publication = connection.execute(
        "SELECT 't'::regclass::oid, oid FROM pg_publication WHERE pubname = 'p'"
    ).fetchone()
    columns = [
        name
        for (name,) in connection.execute(
            "SELECT attname::text FROM pg_attribute "
            "WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            [table],
        )
    ]
    return json.loads(json.dumps(shape.read(connection, table=table, publication=publication, columns=columns)))


def happened(connection: psycopg.Connection, before: tuple[str, ...], *ddl: str) -> str:
    for statement in before:
        connection.execute(statement)
    former = look(connection)
    for statement in ddl:
        connection.execute(statement)
    return "; ".join(shape.differences(former, look(connection)))


@pytest.mark.parametrize(
    ("ddl", "said"),
    [
        # C1: altered and altered back
        (
            [
                "ALTER PUBLICATION p SET (publish = 'insert')",
                "ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')",
            ],
            "the publication was altered",
        ),
        (
            ["ALTER PUBLICATION p SET TABLE t WHERE (id > 5)", "ALTER PUBLICATION p SET TABLE t"],
            "removed from its publication and added again",
        ),
        (["ALTER PUBLICATION p DROP TABLE t", "ALTER PUBLICATION p ADD TABLE t"], "and added again"),
        (["DROP PUBLICATION p", "CREATE PUBLICATION p FOR TABLE t"], "the publication was recreated"),
        (["ALTER TABLE t RENAME TO old", "CREATE TABLE t (LIKE old)"], "the table was recreated"),
        # B6: rows that read differently without an event
        (["ALTER TABLE t ALTER status TYPE text USING upper(status)"], "rewritten and its column status altered"),
        (["ALTER TABLE t ALTER nome TYPE char(5)"], "rewritten and its column nome altered"),
        (["SET timezone = 'UTC'", "ALTER TABLE t ALTER em TYPE timestamp", "RESET timezone"], "type of the column em"),
        (["ALTER TABLE t ADD n int DEFAULT 7"], "the column n was added with a value"),
        (["ALTER TABLE t ADD n int DEFAULT 7", "VACUUM FULL t"], "the column n was added with a value"),
        (["ALTER TABLE t ADD n float DEFAULT random()"], "the column n was added with a value"),
        (["ALTER TABLE t ADD n int GENERATED ALWAYS AS IDENTITY"], "the column n was added with a value"),
        (["ALTER TABLE t DROP status", "ALTER TABLE t ADD status text"], "status was dropped and added again"),
        (["ALTER TABLE t RENAME status TO estado"], "the column estado was renamed"),
        (
            ["ALTER TABLE t DROP nome", "ALTER TABLE t RENAME status TO nome"],
            "or another one was renamed to nome",
        ),
        (["ALTER TABLE t ALTER dobro DROP EXPRESSION"], "the column dobro was renamed to that name, or was not publ"),
        (["ALTER TYPE humor RENAME VALUE 'bom' TO 'ótimo'"], "a label of an enum was renamed"),
        (["ALTER TYPE lugar ADD ATTRIBUTE cep text"], "a row type altered"),
        # What changes no row
        (["VACUUM FULL t"], ""),
        (["CLUSTER t USING t_pkey", "ANALYZE t"], ""),
        (["TRUNCATE t"], ""),  # published
        (["ALTER TABLE t ADD n text"], ""),  # the test source_drifted warns
        (["ALTER TABLE t DROP status"], ""),
        (["ALTER TABLE t ALTER status SET DEFAULT 'y'", "ALTER TABLE t ALTER status SET NOT NULL"], ""),
        (["ALTER TABLE t ALTER status SET STATISTICS 5", "ALTER TABLE t ALTER status SET STORAGE EXTERNAL"], ""),
        (["ALTER TABLE t ALTER nome TYPE varchar(40)", "ALTER TABLE t ALTER nome TYPE text"], ""),
        (["CREATE INDEX i ON t (status)", "REINDEX TABLE t", "DROP INDEX i"], ""),
        (["ALTER TABLE t ADD triplo int GENERATED ALWAYS AS (id * 3) STORED"], ""),
        (["ALTER TYPE humor ADD VALUE 'neutro'"], ""),
        (["INSERT INTO t SELECT i FROM generate_series(2, 99) i", "UPDATE t SET nome = 'y'", "DELETE FROM t"], ""),
    ],
)
def test_ddl_on_a_plain_table(connection: psycopg.Connection, ddl: list[str], said: str) -> None:
    """Change-data faults B6, C1. KINDS: change and change back between two looks; DDL that rewrites rows."""
    sentence = happened(connection, PLAIN, *ddl)
    assert said in sentence if said else sentence == ""


@pytest.mark.parametrize(
    ("ddl", "said"),
    [
        ([STANDALONE, "ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (30) TO (40)"], "shapes.t3 was attached"),
        (
            [
                "BEGIN",
                STANDALONE,
                "INSERT INTO t3 VALUES (30)",
                "ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (30) TO (40)",
                "COMMIT",
            ],
            "shapes.t3 was attached",
        ),
        (
            [
                "CREATE TABLE t4 (id int NOT NULL, nome text DEFAULT 'x') PARTITION BY RANGE (id)",
                "CREATE TABLE t4a PARTITION OF t4 FOR VALUES FROM (40) TO (50)",
                "INSERT INTO t4 VALUES (40)",
                "ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (40) TO (50)",
            ],
            "shapes.t4 was attached",
        ),
        (["ALTER TABLE t DETACH PARTITION t1"], "shapes.t1 was detached or dropped"),
        (["ALTER TABLE t DETACH PARTITION t2"], "shapes.t2a was detached or dropped"),
        (["DROP TABLE t1"], "shapes.t1 was detached or dropped"),
        (
            [
                "ALTER TABLE t DETACH PARTITION t1",
                "DELETE FROM t1",
                "ALTER TABLE t ATTACH PARTITION t1 FOR VALUES FROM (0) TO (10)",
            ],
            "shapes.t1 was attached",
        ),
        (["TRUNCATE t1"], "shapes.t1 was truncated or rewritten"),
        (["TRUNCATE t", "INSERT INTO t VALUES (1)", "TRUNCATE t1"], "shapes.t1 was truncated or rewritten"),
        (["ALTER TABLE t1 SET UNLOGGED", "ALTER TABLE t1 SET LOGGED"], "shapes.t1 was truncated or rewritten"),
        (["ALTER TABLE t ALTER nome TYPE text USING upper(nome)"], "rewritten and its column nome altered"),
        # What changes no row
        (["TRUNCATE t"], ""),  # published
        (["CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (30) TO (40)", "INSERT INTO t VALUES (31)"], ""),
        (["CREATE TABLE t2b PARTITION OF t2 FOR VALUES FROM (20) TO (30)", "ALTER TABLE t2b ALTER nome SET NOT NULL"],
         ""),
        (["UPDATE t SET id = 11 WHERE id = 1", "VACUUM t", "ANALYZE t", "CREATE INDEX ON t (nome)"], ""),
        (["ALTER TABLE t ADD n text", "ALTER TABLE t DROP n"], ""),
    ],
)  # fmt: skip
def test_ddl_on_a_table_in_partitions(connection: psycopg.Connection, ddl: list[str], said: str) -> None:
    """Change-data faults C4. KIND: DDL that moves rows."""
    sentence = happened(connection, PARTITIONED, *ddl)
    assert said in sentence if said else sentence == ""


def test_a_run_stops_after_such_ddl_and_goes_on_after_other_ddl(landing: Landing) -> None:
    """Change-data faults C1. What is no reason to stop is forgotten: the next look compares with the last one."""
    landing.use(customer_gaps="stop")
    landing.write(person("Ana"))
    landing.land()
    landing.write("ALTER TABLE usuarios ADD apelido text")
    landing.land()
    landing.write("ALTER TABLE usuarios ALTER apelido SET DEFAULT 'x'", person("Bia"))
    assert landing.land().rows == 1
    landing.write("ALTER PUBLICATION lakehouse_usuarios SET (publish = 'insert')")
    landing.write("UPDATE usuarios SET nome = 'Unseen'")
    landing.write("ALTER PUBLICATION lakehouse_usuarios SET (publish = 'insert, update, delete, truncate')")
    landing.refuses("the publication was altered")
    landing.land(resnapshot=True)
    assert landing.replayed() == landing.live()


def test_a_state_of_an_older_loader_knows_the_oids_alone(landing: Landing) -> None:
    landing.use(customer_gaps="stop")
    landing.write(person("Ana"))
    landing.land()
    now = landing.state["published_as"]
    landing.change_state(
        published_as="/".join(
            str(oid) for oid in (now["publication"]["oid"], now["publication"]["member"], now["table"])
        )
    )
    landing.write(person("Bia"))
    assert landing.land().rows == 1
    assert landing.state["published_as"]["columns"] == now["columns"]
    landing.change_state(published_as=f"1/2/{now['table']}")
    landing.refuses("the publication was recreated")
