"""Whether PostgreSQL itself would let the application write, and whether the catalogue says the same."""

import json
from collections.abc import Iterator

import psycopg
import pytest

from loaders.errors import OperatorError
from loaders.users import publication, replica_identity, server
from loaders.users.pgoutput import decode
from sandbox import postgres

NO_IDENTITY = "guards.t has no replica identity"
PARTITIONED = (
    "CREATE TABLE t (id int, nome text) PARTITION BY RANGE (id)",
    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
)

# A table t, and what is said of it before it is published; None: it may be.
TABLES = {
    "deferrable key": (["CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, nome text)"], NO_IDENTITY),
    "no key": (["CREATE TABLE t (id int, nome text)"], NO_IDENTITY),
    "identity nothing": (
        ["CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t REPLICA IDENTITY NOTHING"],
        NO_IDENTITY,
    ),
    "index of the identity dropped": (
        [
            "CREATE TABLE t (id int NOT NULL, nome text)",
            "CREATE UNIQUE INDEX i ON t (id)",
            "ALTER TABLE t REPLICA IDENTITY USING INDEX i",
            "DROP INDEX i",
        ],
        NO_IDENTITY,
    ),
    "leaves without identity below a root with one": (
        [*PARTITIONED, "ALTER TABLE t REPLICA IDENTITY FULL"],
        "guards.t1 has no replica identity",
    ),
    "leaf with identity nothing": (
        [*PARTITIONED, "ALTER TABLE t ADD PRIMARY KEY (id)", "ALTER TABLE t1 REPLICA IDENTITY NOTHING"],
        "guards.t1 has no replica identity",
    ),
    "full identity with a stored column": (
        [
            "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)",
            "ALTER TABLE t REPLICA IDENTITY FULL",
        ],
        "guards.t has generated columns",  # since PostgreSQL 18
    ),
    "good": (["CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)"], None),
    "key of its own that no column can be set to": (
        ["CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)"],
        None,
    ),
    "full identity": (["CREATE TABLE t (id int PRIMARY KEY, n text)", "ALTER TABLE t REPLICA IDENTITY FULL"], None),
    "identity by an index on the key": (
        [
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)",
            "CREATE UNIQUE INDEX i ON t (id)",
            "ALTER TABLE t REPLICA IDENTITY USING INDEX i",
        ],
        None,
    ),
    "key with further columns in its index": (["CREATE TABLE t (id int, n int, PRIMARY KEY (id) INCLUDE (n))"], None),
    "leaf with full identity": (
        [*PARTITIONED, "ALTER TABLE t ADD PRIMARY KEY (id)", "ALTER TABLE t1 REPLICA IDENTITY FULL"],
        None,
    ),
    "typed table, domain key": (
        [
            "CREATE DOMAIN chave AS int CHECK (value > 0)",
            "CREATE TYPE linha AS (id chave, nome text)",
            "CREATE TABLE t OF linha (PRIMARY KEY (id))",
        ],
        None,
    ),
    "a partition of another table": (
        ["CREATE TABLE s (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE t PARTITION OF s DEFAULT"],
        None,
    ),
    # Rows and changes would be of different tables
    "a child with a key": (
        ["CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE filho (PRIMARY KEY (id)) INHERITS (t)"],
        "inherit from it (guards.filho)",
    ),
    "a child without one": (
        ["CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE filho () INHERITS (t)"],
        "inherit from it (guards.filho)",
    ),
    "a temporary child": (["CREATE TABLE t (id int PRIMARY KEY)", "CREATE TEMP TABLE filho () INHERITS (t)"], None),
    "unlogged leaf": (
        [
            *PARTITIONED,
            "CREATE UNLOGGED TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
            "ALTER TABLE t ADD PRIMARY KEY (id)",
        ],
        "the partition guards.t2 is an unlogged table",
    ),
    "view": (["CREATE VIEW t AS SELECT 1 AS id"], "it is a view"),
    "unlogged": (["CREATE UNLOGGED TABLE t (id int PRIMARY KEY)"], "it is an unlogged table"),
    "missing": ([], "no ordinary table guards.t"),
    # Changes would not say which row they are of (A6)
    "identity by another index": (
        [
            "CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL UNIQUE)",
            "ALTER TABLE t REPLICA IDENTITY USING INDEX t_email_key",
        ],
        "name a row by email, and dbt knows it by id",
    ),
    "another primary key": (["CREATE TABLE t (id int, email text PRIMARY KEY)"], "name a row by email"),
    "a primary key with the partition's column": (
        [
            "CREATE TABLE t (id int, uf text, n int, PRIMARY KEY (id, uf)) PARTITION BY LIST (uf)",
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
        ],
        None,
    ),
    "a primary key with another column than the partition's": (
        [
            "CREATE TABLE t (id int, uf text, n int, PRIMARY KEY (id, uf, n)) PARTITION BY LIST (uf)",
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
        ],
        "by id, n, uf",
    ),
    "full identity with the key and an expression": (
        [
            "CREATE TABLE t (id int NOT NULL, n text)",
            "CREATE UNIQUE INDEX ON t (id, lower(n))",
            "ALTER TABLE t REPLICA IDENTITY FULL",
        ],
        "must be NOT NULL and have a valid unique index",
    ),
    "a primary key with more columns": (["CREATE TABLE t (id int, uf text, PRIMARY KEY (id, uf))"], "by id, uf"),
    "leaf with another identity": (
        [
            *PARTITIONED,
            "ALTER TABLE t ADD PRIMARY KEY (id)",
            "ALTER TABLE t1 ALTER nome SET NOT NULL",
            "CREATE UNIQUE INDEX i ON t1 (nome)",
            "ALTER TABLE t1 REPLICA IDENTITY USING INDEX i",
        ],
        "changes of guards.t1 name a row by nome",
    ),
    "full identity without a key": (
        ["CREATE TABLE t (id int, n text)", "ALTER TABLE t REPLICA IDENTITY FULL"],
        "must be NOT NULL and have a valid unique index",
    ),
    "full identity with a deferrable key": (
        ["CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", "ALTER TABLE t REPLICA IDENTITY FULL"],
        "must be NOT NULL and have a valid unique index",
    ),
    "full identity, a key for some rows": (
        [
            "CREATE TABLE t (id int NOT NULL, n text)",
            "CREATE UNIQUE INDEX i ON t (id) WHERE n > ''",
            "ALTER TABLE t REPLICA IDENTITY FULL",
        ],
        "must be NOT NULL and have a valid unique index",
    ),
    "no column of that name": (["CREATE TABLE t (codigo int PRIMARY KEY)"], "name a row by codigo"),
}


@pytest.fixture
def application(any_version: postgres.Database) -> Iterator[psycopg.Connection]:
    """The application, in a schema of the test's own that is dropped with its publications."""
    with psycopg.connect(any_version.app_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA guards")
        connection.execute(f"GRANT USAGE ON SCHEMA guards TO {postgres.LOADER}")
        connection.execute("SET search_path = guards")
        yield connection
        connection.execute("DROP PUBLICATION IF EXISTS lakehouse_t")
        connection.execute("SET client_min_messages = error")
        connection.execute("DROP SCHEMA guards CASCADE")


def publish(dsn: str) -> publication.Table:
    with server.connect(dsn) as connection:
        return publication.publish(connection, publication.find_table(connection, "guards.t"), is_standby=False)


def may_write(connection: psycopg.Connection, table: str = "t") -> bool:
    try:
        connection.execute(f"EXPLAIN DELETE FROM {table}")
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference):
        return False
    return True


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_published_only_if_the_application_can_still_write_and_all_changes_name_their_row(
    application: psycopg.Connection, any_version: postgres.Database, name: str
) -> None:
    """Change-data faults A1, A2, A2b, A3, A4, A6, A7. KIND: a guard that asks less than PostgreSQL does."""
    statements, reason = TABLES[name]
    for statement in statements:
        application.execute(statement)
    if name == "full identity with a stored column" and application.info.server_version < 180_000:
        reason = None
    if reason is None:
        assert publish(any_version.app_dsn).publication == "lakehouse_t"
        assert may_write(application)
        assert publish(any_version.dsn).name == "t"  # and the loader's own role, which does not own it, says so too
        return
    with pytest.raises(OperatorError) as raised:
        publish(any_version.app_dsn)
    assert reason in str(raised.value)
    assert application.execute("SELECT FROM pg_publication WHERE pubname = 'lakehouse_t'").rowcount == 0


# What may be so already: a table t, its publication, and what is said of it.
WHOLE = "CREATE PUBLICATION lakehouse_t FOR TABLE t WITH (publish_via_partition_root = true)"
BROKEN = {
    "deferrable key": ([*TABLES["deferrable key"][0], WHOLE], NO_IDENTITY),
    "index of the identity dropped": ([*TABLES["index of the identity dropped"][0], WHOLE], NO_IDENTITY),
    "leaf": ([*TABLES["leaves without identity below a root with one"][0], WHOLE], "guards.t1 has no replica identity"),
    "a leaf created since": (
        [
            *PARTITIONED,
            "ALTER TABLE t1 ADD PRIMARY KEY (id)",
            WHOLE,
            "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        ],
        "guards.t2 has no replica identity",
    ),
    "another table of the publication": (
        [
            "CREATE TABLE t (id int PRIMARY KEY)",
            "CREATE TABLE u (id int)",
            "CREATE PUBLICATION lakehouse_t FOR TABLE t, u",
        ],
        "guards.u has no replica identity",
    ),
    "column list without the identity": (
        ["CREATE TABLE t (id int PRIMARY KEY, nome text)", "CREATE PUBLICATION lakehouse_t FOR TABLE t (nome)"],
        "column list does not hold the replica identity of guards.t",
    ),
    "column list with full identity": (
        [
            "CREATE TABLE t (id int PRIMARY KEY, nome text)",
            "CREATE PUBLICATION lakehouse_t FOR TABLE t (id, nome)",
            "ALTER TABLE t REPLICA IDENTITY FULL",
        ],
        "column list does not hold the replica identity of guards.t",
    ),
}
BROKEN_SINCE_18 = {
    "stored column": (
        [*TABLES["full identity with a stored column"][0], WHOLE],
        "guards.t has generated columns",
    ),
    "virtual column": (
        [
            "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) VIRTUAL)",
            "ALTER TABLE t REPLICA IDENTITY FULL",
            "CREATE PUBLICATION lakehouse_t FOR TABLE t WITH (publish_generated_columns = stored)",
        ],
        "guards.t has generated columns",
    ),
}


@pytest.mark.parametrize("name", BROKEN | BROKEN_SINCE_18)
def test_a_publication_that_breaks_the_applications_writes_is_said_to(
    application: psycopg.Connection, any_version: postgres.Database, name: str
) -> None:
    """Change-data faults A1 to A4: somebody else created the publication, or the table was altered since."""
    version = application.info.server_version
    if (name in BROKEN_SINCE_18 and version < 180_000) or ("column list" in name and version < 150_000):
        return  # PostgreSQL knows neither the statement nor the fault
    statements, reason = (BROKEN | BROKEN_SINCE_18)[name]
    for statement in statements:
        application.execute(statement)
    assert not may_write(application, "u" if "another table" in name else "t")
    for dsn in (any_version.dsn, any_version.app_dsn):
        with pytest.raises(OperatorError) as raised:
            publish(dsn)
        assert "THE APPLICATION CANNOT WRITE" in str(raised.value)
        assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["CREATE PUBLICATION lakehouse_t FOR TABLE u"], "does not hold guards.t by its name"),
        (["CREATE PUBLICATION lakehouse_t FOR ALL TABLES"], "does not hold guards.t by its name"),
        (["CREATE PUBLICATION lakehouse_t FOR TABLE t WITH (publish = 'insert, update')"], "hides changes"),
        (["DROP TABLE t", *PARTITIONED, "ALTER TABLE t ADD PRIMARY KEY (id)",
          "CREATE PUBLICATION lakehouse_t FOR TABLE t"], "publishes the partitions"),
    ],
)  # fmt: skip
def test_a_publication_that_hides_changes_is_refused(
    application: psycopg.Connection, any_version: postgres.Database, statements: list[str], reason: str
) -> None:
    for statement in ("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)", *statements):
        application.execute(statement) if "ALL TABLES" not in statement else as_admin(any_version, statement)
    with pytest.raises(OperatorError) as raised:
        publish(any_version.dsn)
    assert reason in str(raised.value)
    as_admin(any_version, "DROP PUBLICATION lakehouse_t")


def as_admin(database: postgres.Database, statement: str) -> None:
    with psycopg.connect(database.admin_dsn, autocommit=True) as connection:
        connection.execute(statement)


def test_a_write_that_postgresql_refuses_for_a_reason_of_its_own_leaves_no_publication(
    application: psycopg.Connection, any_version: postgres.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change-data faults A1. PostgreSQL is asked itself: here the catalogue's answer is made to be "yes"."""
    application.execute("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)")
    monkeypatch.setattr(replica_identity, "unwritable", lambda *_: None)
    monkeypatch.setattr(replica_identity, "unkeyed", lambda *_: None)
    monkeypatch.setattr(replica_identity, "has_unique_key", lambda *_: True)
    with pytest.raises(OperatorError, match=r"would make the application's writes fail: cannot .* replica identity"):
        publish(any_version.app_dsn)
    assert may_write(application)
    assert application.execute("SELECT FROM pg_publication WHERE pubname = 'lakehouse_t'").rowcount == 0


def test_a_partition_on_another_server_is_refused(
    application: psycopg.Connection, any_version: postgres.Database
) -> None:
    as_admin(any_version, "CREATE FOREIGN DATA WRAPPER nowhere")
    try:
        as_admin(any_version, "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere")
        as_admin(any_version, f"GRANT USAGE ON FOREIGN SERVER elsewhere TO {postgres.APP}")
        application.execute(PARTITIONED[0])
        application.execute("CREATE FOREIGN TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10) SERVER elsewhere")
        with pytest.raises(OperatorError, match=r"the partition guards\.t1 is a foreign table"):
            publish(any_version.app_dsn)
    finally:
        as_admin(any_version, "DROP FOREIGN DATA WRAPPER nowhere CASCADE")


def test_a_role_that_may_not_create_the_publication_says_who_may(
    application: psycopg.Connection, any_version: postgres.Database
) -> None:
    """KIND: DDL that no retry heals."""
    application.execute("CREATE TABLE t (id int PRIMARY KEY)")
    read_only = f"{any_version.app_dsn}?options=-c%20default_transaction_read_only%3Don"
    for dsn, why in ((any_version.dsn, "permission denied"), (read_only, "read-only transaction")):
        with pytest.raises(OperatorError, match=f'{why}.*CREATE PUBLICATION "lakehouse_t" FOR TABLE ONLY "guards"."t"'):
            publish(dsn)


def test_columns_of_snapshot_and_changes_are_the_same_whatever_is_generated(
    application: psycopg.Connection, any_version: postgres.Database
) -> None:
    """Change-data faults A5. KIND: snapshot and stream disagree on what the table is."""
    version = application.info.server_version
    virtual = ", v int GENERATED ALWAYS AS (id * 3) VIRTUAL" if version >= 180_000 else ""
    application.execute(
        f"CREATE TABLE t (g int GENERATED ALWAYS AS (id * 2) STORED{virtual}, id int PRIMARY KEY, n text)"
    )
    options = ["", " (id, n)"] if version >= 150_000 else [""]
    options += [" WITH (publish_generated_columns = stored)", " (id, g)"] if version >= 180_000 else []
    for option in options:
        application.execute(f"CREATE PUBLICATION lakehouse_t FOR TABLE t{option}")
        with (
            psycopg.connect(any_version.admin_dsn, autocommit=True) as admin,
            server.connect(any_version.dsn) as loader,
        ):
            admin.execute("SELECT pg_create_logical_replication_slot('columns', 'pgoutput')")
            application.execute("INSERT INTO t VALUES (DEFAULT, 1, 'x')" if not virtual else
                                "INSERT INTO t VALUES (DEFAULT, DEFAULT, 1, 'x')")  # fmt: skip
            messages = admin.execute(
                "SELECT (lsn - '0/0')::bigint, data FROM pg_logical_slot_get_binary_changes("
                "'columns', NULL, NULL, 'proto_version', '1', 'publication_names', 'lakehouse_t')"
            ).fetchall()
            admin.execute("SELECT pg_drop_replication_slot('columns')")
            table = publication.find_table(loader, "guards.t")
            (event,) = decode(messages, relation_oid=table.oid, database="", start=0, end=1 << 62)
            assert publication.published(loader, "lakehouse_t", table) == list(json.loads(event.after)), option
        application.execute("TRUNCATE t")
        application.execute("DROP PUBLICATION lakehouse_t")
