"""Connections: settings that hold whatever the server's are, waits that end, and what an error says to do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import psycopg
import pytest

from loaders.errors import LoaderError, OperatorError, TransientError
from loaders.users import publication, server, snapshot
from loaders.users.dsn import Dsn
from loaders.users.server import Server
from sandbox import postgres
from tests.loaders.users.conftest import Landing, person
from tests.loaders.users.pooler import pooler

# What a database administrator may have set for the role, and what would be read or waited for differently then.
HOSTILE = {
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "extra_float_digits": "0",
    "idle_in_transaction_session_timeout": "100ms",
    "idle_session_timeout": "100ms",
    "intervalstyle": "iso_8601",
    "lc_monetary": "C.UTF-8",
    "lock_timeout": "100ms",
    "quote_all_identifiers": "on",
    "row_security": "on",
    "search_path": "public",
    "standard_conforming_strings": "off",
    "statement_timeout": "100ms",
    "synchronous_commit": "remote_apply",
    "timezone": "Asia/Tokyo",
    "transaction_timeout": "100ms",
    "wal_sender_timeout": "100ms",
}


def through(dsn: str, port: int) -> str:
    """The same DSN on another port."""
    return dsn.replace(f":{urlsplit(dsn).port}/", f":{port}/")


def test_no_setting_of_the_role_reaches_a_session(any_version: postgres.Database) -> None:
    """Change-data faults E5, E7, E8. KIND: settings sent, never read back; waits that the server's settings prolong."""
    newer = psycopg.connect(any_version.admin_dsn).info.server_version >= 170_000
    hostile = {name: value for name, value in HOSTILE.items() if newer or name != "transaction_timeout"}
    assert hostile.keys() >= server.SESSION.keys()
    role = f"ALTER ROLE {postgres.LOADER} IN DATABASE {any_version.name}"
    with psycopg.connect(any_version.admin_dsn, autocommit=True) as admin:
        try:
            for name, value in hostile.items():
                admin.execute(
                    f"{role} SET {name} = '{value}'" if name != "search_path" else f"{role} SET {name} = {value}"
                )
            for replication in (False, True):
                expected = server.SESSION | (server.REPLICATION if replication else {})
                expected |= server.SINCE_17 if newer else {}
                with server.connect(any_version.dsn, replication=replication) as connection:
                    shown = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in hostile}
                assert {name: shown[name] for name in expected} == expected
        finally:
            admin.execute(f"{role} RESET ALL")


@pytest.mark.parametrize("setting", ["CUSTOMER_DSN", "CUSTOMER_SNAPSHOT_DSN"])
def test_a_pooler_that_drops_the_settings_is_refused(landing: Landing, setting: str) -> None:
    """Change-data faults E2: rows that a policy hides would be missing without a word."""
    landing.write(
        person("Ana"),
        "ALTER TABLE usuarios ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY later ON usuarios FOR SELECT USING (id > 3)",
    )
    dsn = landing.customer.dsn
    with pooler(urlsplit(dsn).port, drops=("options",)) as between:
        landing.use(**{setting.lower(): through(dsn, between.port)})
        if setting == "CUSTOMER_DSN":
            landing.use(customer_snapshot_dsn=dsn)
        with pytest.raises(OperatorError, match=f"{setting} leads through a pooler that does not take .* row_security"):
            landing.land()
    assert landing.files() == []


def test_a_pooler_that_changes_sessions_is_refused(customer_database: postgres.Database) -> None:
    """A stand-in for its connection: each statement is another session's."""
    processes = iter([1, 2])

    def execute(statement: str) -> SimpleNamespace:
        process = next(processes)
        return SimpleNamespace(fetchall=lambda: [("timezone", "UTC", process)], fetchone=lambda: (process,))

    with pytest.raises(OperatorError, match="changes sessions between statements"):
        server._check_session(SimpleNamespace(execute=execute), {"timezone": "UTC"}, "CUSTOMER_DSN")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENCE_SECONDS", 0.5)


def test_a_line_that_goes_dead_ends_every_wait(landing: Landing, impatient: None) -> None:
    """Change-data faults E8. KIND: a wait that only the server's settings bound."""
    landing.write("INSERT INTO usuarios (nome, email, cpf, observacoes) "
                  "SELECT i, i, i, repeat('x', 20000) FROM generate_series(1, 1000) i")  # fmt: skip
    landing.land()
    position = landing.state["position"]
    dsn = landing.customer.dsn

    def statement(connection: server.Connection) -> None:
        connection.execute("SELECT 1")

    def copy(connection: server.Connection) -> None:
        table = publication.find_table(connection, "public.usuarios")
        table = publication.publish(connection, table, is_standby=False)
        rows = snapshot.rows(connection, position, table=table, database="")
        next(rows), next(rows)
        between.dead.set()
        list(rows)

    for wait in (statement, copy):
        with pooler(urlsplit(dsn).port) as between, server.connect(through(dsn, between.port)) as connection:
            if wait is statement:
                between.dead.set()
            with pytest.raises(TransientError, match="has sent nothing for"):
                wait(connection)
            assert connection.closed
    with pooler(urlsplit(dsn).port) as between:
        between.dead.set()
        with pytest.raises(TransientError, match=r"no connection could be made to 127\.0\.0\.1"):
            server.connect(through(dsn, between.port) + "?connect_timeout=2")


def test_a_standby_that_is_away_keeps_no_publication_waiting(landing: Landing) -> None:
    """Change-data faults E8: CREATE PUBLICATION waited in SyncRep without an end."""
    landing.write("DROP PUBLICATION lakehouse_usuarios", person("Ana"))
    landing.use(customer_dsn=landing.customer.admin_dsn)
    try:
        landing.admin("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
        landing.admin("SELECT pg_reload_conf()")
        # Once another's commit waits, the setting has taken effect. That one is let go: a slot waits for it.
        waits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        application = threading.Thread(target=landing.write, args=[person("Bia")])
        application.start()
        while not landing.admin(waits):
            if not application.is_alive():
                application = threading.Thread(target=landing.write, args=[person("Bia")])
                application.start()
        application.join()
        landing.land()
    finally:
        landing.admin("ALTER SYSTEM RESET synchronous_standby_names")
        landing.admin("SELECT pg_reload_conf()")
    assert landing.replayed() == landing.live()


@contextmanager
def role(database: postgres.Database, options: str) -> Iterator[str]:
    """The DSN of another role with these options."""
    with psycopg.connect(database.admin_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE other PASSWORD 'other' {options}")
        try:
            admin.execute(f"GRANT CONNECT ON DATABASE {database.name} TO other")
            yield database.dsn.replace(urlsplit(database.dsn).netloc.partition("@")[0], "other:other")
        finally:
            admin.execute(f"REVOKE ALL ON DATABASE {database.name} FROM other")
            admin.execute("DROP ROLE other")


def test_a_server_that_refuses_is_no_failure_that_a_retry_heals(any_version: postgres.Database) -> None:
    """Change-data faults E10. What the server says is passed on, with the setting's name and the remedy."""
    dsn = any_version.dsn
    password = urlsplit(dsn).password
    with (
        role(any_version, "LOGIN") as no_replication,
        pytest.raises(OperatorError, match=r"refused .*(WAL|wal) ?sender"),
    ):
        server.connect(no_replication, replication=True)
    with role(any_version, "NOLOGIN") as no_login, pytest.raises(OperatorError, match="not permitted to log in"):
        server.connect(no_login)
    with role(any_version, "LOGIN CONNECTION LIMIT 0") as full, pytest.raises(TransientError, match="too many connect"):
        server.connect(full)
    for wrong, said in (
        (dsn.replace(password, "wrong"), "password authentication failed"),
        (dsn.replace(f":{password}", ""), "asks for a password, and there is none"),
        (dsn.replace(f"{postgres.LOADER}:", "nobody:"), "password authentication failed"),
        (dsn.replace(f"/{any_version.name}", "/nosuch"), 'database "nosuch" does not exist'),
    ):
        with pytest.raises(OperatorError, match=said) as raised:
            server.connect(wrong, setting="CUSTOMER_SNAPSHOT_DSN")
        assert password not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("connection failed: FATAL:  the database system is starting up", TransientError, "starting up"),
        ("connection failed: FATAL:  the database system is shutting down", TransientError, "shutting down"),
        ("connection failed: FATAL:  sorry, too many clients already", TransientError, "too many clients"),
        ("connection failed: FATAL:  no pg_hba.conf entry for host", OperatorError, "refused"),
        ("connection failed: FATAL:  unsupported startup parameter: options", OperatorError, "a pooler that refuses"),
        ('FATAL:  unrecognized configuration parameter "idle_session_timeout"', OperatorError, "PostgreSQL 14"),
        ("connection failed: server does not support SSL, but SSL was required", OperatorError, "TLS is required"),
        ('root certificate file "/x" does not exist', OperatorError, "TLS failed"),
        ('invalid sslmode value: "secret"', OperatorError, "does not know"),
        ('definition of service "secret" not found', OperatorError, "is not defined"),
        (
            "failed to resolve host 'secret': [Errno -2] Name or service not known",
            TransientError,
            "its name cannot be resolved",
        ),
        ("connection timeout expired", TransientError, "no connection could be made to db:5432"),
    ],
)
def test_what_libpq_says_is_read_but_not_passed_on(text: str, error: type[LoaderError], said: str) -> None:
    """Change-data faults E10, M1. The texts are libpq's and the server's, as they were seen."""
    made = server._not_connected(text, Dsn("CUSTOMER_DSN", {"host": "db"}))
    assert type(made) is error and said in str(made) and "secret" not in str(made)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("CREATE TABLE public.x ()", OperatorError),  # 42501 or 25006: no right
        ("SELECT nosuch FROM usuarios", OperatorError),
        ("SELECT 1 / 0", OperatorError),
        ("SELECT pg_replication_slot_advance('nosuch', '0/1')", OperatorError),
        ("SELECT pg_cancel_backend(pg_backend_pid())", TransientError),
        ("SELECT pg_terminate_backend(pg_backend_pid())", TransientError),
    ],
)
def test_only_what_a_retry_may_heal_is_a_failure_that_a_retry_may_heal(
    customer_database: postgres.Database, statement: str, error: type[LoaderError]
) -> None:
    with server.connect(customer_database.dsn) as connection, pytest.raises(error), server.source_errors():
        connection.execute(statement)


def test_two_primaries_of_one_origin_are_no_primary_and_its_replica(older_database: postgres.Database) -> None:
    """Change-data faults D5: the snapshot's server was promoted."""
    one = Server("7", "customer", False, 1, 180_000, "logical", "UTF8", "2026-01-01 00:00:00.1+00")
    server.check_replica(one, one)
    server.check_replica(one, replace(one, is_standby=True, started="2026-01-02 00:00:00+00"))
    with pytest.raises(OperatorError, match="one of them was promoted"):
        server.check_replica(one, replace(one, started="2026-01-02 00:00:00+00"))
    with (
        server.connect(older_database.dsn) as connection,
        pytest.raises(OperatorError, match="was one of them promoted"),
    ):
        snapshot.begin_exported(connection, "00000003-0000001B-1")


def test_a_snapshot_that_the_replica_cancels_says_what_helps(landing: Landing, servers: postgres.Servers) -> None:
    """Change-data faults D9: a recovery conflict."""
    landing.write("INSERT INTO usuarios (nome, email, cpf, observacoes) "
                  "SELECT i, i, i, repeat('x', 20000) FROM generate_series(1, 1000) i")  # fmt: skip
    landing.land()
    with (
        psycopg.connect(servers.dsn(postgres.ADMIN, server="standby"), autocommit=True) as standby,
        server.connect(landing.customer.snapshot_dsn) as reader,
    ):
        standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = '10ms'")
        standby.execute("SELECT pg_reload_conf()")
        try:
            table = publication.publish(reader, publication.find_table(reader, "public.usuarios"), is_standby=True)
            rows = snapshot.rows(reader, snapshot.begin_on_standby(reader, 0), table=table, database="")
            next(rows), next(rows)
            landing.write(
                "ALTER TABLE usuarios ADD apelido text"
            )  # its lock waits for the reader's, on the standby too
            conflict = "SELECT FROM pg_stat_activity WHERE backend_type = 'startup' AND wait_event_type = 'Lock'"
            while not standby.execute(conflict).rowcount:
                pass
            with pytest.raises(TransientError, match=r"hot_standby_feedback = on.*The slot keeps WAL"):
                list(rows)
        finally:
            standby.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
            standby.execute("SELECT pg_reload_conf()")
