"""What lands of each kind of change on a real server."""

import threading
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders.errors import TransientError
from loaders.lake import open_lake
from loaders.users import events, replication, server
from sandbox import customer_app
from tests.loaders.users.conftest import Landing, person

TOASTED = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i)"  # 16 kB that do not compress


@pytest.fixture
def started(landing: Landing) -> Landing:
    """A lake that holds the snapshot of one person, Ana, whose id is 1."""
    landing.write(person("Ana"))
    landing.land()
    return landing


def test_inserts_updates_and_deletes_land_in_the_order_of_the_transaction(started: Landing) -> None:
    started.write(
        person("Bia"),
        "UPDATE usuarios SET cidade = 'Recife' WHERE id = 2",
        "DELETE FROM usuarios WHERE id = 1",
    )
    landed = started.land()
    assert landed.rows == 3
    insert, update, delete = started.changes()
    assert (insert[0], insert[1], insert[2]["nome"], insert[2]["cidade"]) == ("c", None, "Bia", None)
    assert (update[0], update[1], update[2]["cidade"]) == ("u", None, "Recife")
    assert delete == ("d", {"id": "1"}, None)
    first, *_, last = [event for event in started.events() if event["source"]["xid"]]
    assert (first["commit_lsn"], first["change_seq"]) == (last["commit_lsn"], last["change_seq"] - 2)
    assert first["source"]["lsn"] < last["source"]["lsn"] < last["commit_lsn"]
    assert first["source"] | {"xid": 0, "lsn": 0} == {
        "db": started.customer.name, "schema": "public", "table": "usuarios", "xid": 0, "lsn": 0,
    }  # fmt: skip


def test_a_file_is_named_by_its_epoch_and_range_and_rows_know_their_batch(started: Landing) -> None:
    started.write(person("Bia"))
    position = started.state["position"]
    landed = started.land()
    end = started.state["position"]
    (path,) = [path for path in started.files() if path.stem == f"1-{position:016X}-{end:016X}"]
    event = started.events()[-1]
    assert path.parent.name == f"load_date={event['landed_at']:%Y-%m-%d}"
    assert (event["batch_id"], event["epoch"], landed.bytes) == (landed.batch_id, 1, path.stat().st_size)
    assert position <= event["commit_lsn"] < end
    assert event["committed_at"] <= event["landed_at"] <= datetime.now(UTC)


def test_a_run_with_nothing_new_lands_no_file_and_still_lets_the_server_forget(started: Landing) -> None:
    files = started.files()
    started.land()
    assert started.land().rows == 0
    with psycopg.connect(started.customer.app_dsn) as connection:
        connection.execute("CREATE TABLE pedidos (id int)")
        connection.execute("INSERT INTO pedidos SELECT generate_series(1, 1000)")
    before = started.state["position"]
    assert started.land().rows == 0
    assert started.state["position"] > before
    assert started.files() == files
    slot = "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots WHERE slot_name = %s"
    assert started.admin(slot, started.state["slot"]) == [(started.state["position"],)]


def test_an_unchanged_toasted_value_is_left_out_and_a_changed_one_is_there(started: Landing) -> None:
    started.write(person("Bia", observacoes=TOASTED))
    started.write("UPDATE usuarios SET cidade = 'Recife' WHERE id = 2")
    started.write("UPDATE usuarios SET observacoes = NULL WHERE id = 2")
    started.land()
    (_, _, inserted), (_, _, moved), (_, _, emptied) = started.changes()
    assert len(inserted["observacoes"]) == 16_000
    assert "observacoes" not in moved and moved["cidade"] == "Recife"
    assert emptied["observacoes"] is None
    assert started.replayed() == started.live()


def test_a_key_that_changes_stays_one_update_that_names_the_old_key(started: Landing) -> None:
    started.write("UPDATE usuarios SET id = 100 WHERE id = 1")
    started.land()
    ((op, before, after),) = started.changes()
    assert (op, before, after["id"]) == ("u", {"id": "1"}, "100")
    assert started.replayed() == started.live()


def test_with_replica_identity_full_before_is_the_whole_row(started: Landing) -> None:
    started.write("ALTER TABLE usuarios REPLICA IDENTITY FULL", f"UPDATE usuarios SET observacoes = {TOASTED}")
    started.write("UPDATE usuarios SET cidade = 'Recife'", "DELETE FROM usuarios")
    started.land()
    (_, first, _), (_, second, moved), (_, deleted, _) = started.changes()
    assert (first["nome"], first["observacoes"]) == ("Ana", None)
    assert len(second["observacoes"]) == 16_000 and "observacoes" not in moved
    assert deleted == second | {"cidade": "Recife"}


def test_a_truncate_is_one_event_also_among_other_tables(started: Landing) -> None:
    started.write("CREATE TABLE pedidos (id int)")
    started.write(person("Bia"), "TRUNCATE pedidos, usuarios", person("Caio"))
    started.land()
    assert [op for op, _, _ in started.changes()] == ["c", "t", "c"]
    assert started.changes()[1] == ("t", None, None)
    assert started.replayed() == started.live()


def test_a_schema_that_changes_in_mid_stream(started: Landing) -> None:
    started.write(person("Bia"), "ALTER TABLE usuarios ADD apelido text", person("Caio", apelido="'c'"))
    started.write("ALTER TABLE usuarios DROP telefone", person("Davi", apelido="'d'"))
    started.write("ALTER TABLE usuarios ALTER renda_mensal TYPE numeric", person("Elis", renda_mensal="0.001"))
    started.land()
    bia, caio, davi, elis = [after for _, _, after in started.changes()]
    assert "apelido" not in bia and "telefone" in bia
    assert caio["apelido"] == "c" and "telefone" in caio
    assert davi["apelido"] == "d" and "telefone" not in davi
    assert elis["renda_mensal"] == "0.001"


def test_transactions_land_whole_in_commit_order_however_they_interleave(started: Landing) -> None:
    with psycopg.connect(started.customer.app_dsn) as early, psycopg.connect(started.customer.app_dsn) as late:
        early.execute(person("Early"))
        late.execute(person("Late"))
        early.execute("UPDATE usuarios SET cidade = 'Recife' WHERE nome = 'Early'")
        late.execute("UPDATE usuarios SET cidade = 'Natal' WHERE nome = 'Late'")
        late.commit()
        started.land()  # the early one is still open: it belongs to a later batch
        assert [after["nome"] for _, _, after in started.changes()] == ["Late", "Late"]
        early.commit()
    started.land()
    assert [after["nome"] for _, _, after in started.changes()] == ["Late", "Late", "Early", "Early"]
    assert started.replayed() == started.live()


def test_what_was_rolled_back_never_lands(started: Landing) -> None:
    with psycopg.connect(started.customer.app_dsn) as connection:
        connection.execute(person("Whole"))
        connection.rollback()
        connection.execute(person("Before"))
        connection.execute("SAVEPOINT here")
        connection.execute(person("Part"))
        connection.execute("ROLLBACK TO SAVEPOINT here")
        connection.execute("SAVEPOINT there")
        connection.execute(person("After"))
        connection.execute("RELEASE SAVEPOINT there")
    started.land()
    assert [(after["nome"], op) for op, _, after in started.changes()] == [("Before", "c"), ("After", "c")]
    assert [event["change_seq"] for event in started.events()[-2:]] == [0, 1]


VALUES = {
    "numeric(20, 4)": ("-12345678901234.5000", "-12345678901234.5000"),
    "numeric": ("'NaN'", "NaN"),
    "double precision": ("0.1::float8 + 0.2", "0.30000000000000004"),
    "real": ("1e20", "1e+20"),
    "bigint": ("-9223372036854775808", "-9223372036854775808"),
    "boolean": ("true", "t"),
    "date": ("'1990-12-31'", "1990-12-31"),
    "timestamp": ("'infinity'", "infinity"),
    "timestamptz": ("'2026-01-02 03:04:05.6-03'", "2026-01-02 06:04:05.6+00"),
    "interval": ("'1 year 2 days 3 hours'", "1 year 2 days 03:00:00"),
    "bytea": (r"'\x00ff'", r"\x00ff"),
    "char(4)": ("'ab'", "ab  "),
    "json": ("""'{"b": 1.50,  "a": "\\n"}'""", '{"b": 1.50,  "a": "\\n"}'),
    "jsonb": ("""'{"b": 1.50,  "a": [null]}'""", '{"a": [null], "b": 1.50}'),
    "text[]": ("""ARRAY['a"b', NULL, 'c,d', '']""", r'{"a\"b",NULL,"c,d",""}'),
    "uuid": ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "inet": ("'10.0.0.1/8'", "10.0.0.1/8"),
    "int4range": ("'[1,5]'", "[1,6)"),
    "text": ("''", ""),
    "varchar": ("NULL", None),
    'text COLLATE "C"': (
        r"""E'çãé 日本 😀 "q" \\ \\u0041 \\N /\t\n\r\b\f\x01\x7f % %b {}\u2028'""",
        'çãé 日本 😀 "q" \\ \\u0041 \\N /\t\n\r\b\f\x01\x7f % %b {}\u2028',
    ),
}


def test_every_type_is_its_text_and_the_same_in_snapshots_and_changes(landing: Landing) -> None:
    names = [f"v{number}" for number in range(len(VALUES))]
    columns = ", ".join(f"ADD {name} {kind}" for name, kind in zip(names, VALUES, strict=True))
    insert = person("Ana", **dict(zip(names, (literal for literal, _ in VALUES.values()), strict=True)))
    # The role's own settings must not show in the data.
    role = "ALTER ROLE lakehouse IN DATABASE {} SET {}"
    for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'", "extra_float_digits = 0",
                    "bytea_output = 'escape'", "intervalstyle = 'iso_8601'"):  # fmt: skip
        landing.admin(role.format(landing.customer.name, setting))
    landing.write(f"ALTER TABLE usuarios {columns}", insert)
    landing.land()
    landing.write(insert)
    landing.land()
    snapshot, change = [event["after"] for event in landing.events() if event["after"]]
    expected = dict(zip(names, (text for _, text in VALUES.values()), strict=True))
    assert {name: snapshot[name] for name in names} == expected
    assert {name: change[name] for name in names} == expected


def test_a_generated_column_is_in_neither_snapshot_nor_changes(landing: Landing) -> None:
    landing.write("ALTER TABLE usuarios ADD maiusculas text GENERATED ALWAYS AS (upper(nome)) STORED", person("Ana"))
    landing.land()
    landing.write(person("Bia"))
    landing.land()
    assert all("maiusculas" not in event["after"] for event in landing.events() if event["after"])


def test_a_table_in_partitions_lands_under_its_own_name(landing: Landing) -> None:
    landing.write(
        "CREATE TABLE contas (id int PRIMARY KEY, nome text) PARTITION BY RANGE (id)",
        "CREATE TABLE contas_1 PARTITION OF contas FOR VALUES FROM (1) TO (10)",
        "CREATE TABLE contas_2 PARTITION OF contas FOR VALUES FROM (10) TO (20)",
        "CREATE PUBLICATION lakehouse_contas FOR TABLE contas WITH (publish_via_partition_root = true)",
        "GRANT SELECT ON contas TO lakehouse",
        "INSERT INTO contas VALUES (1, 'a'), (11, 'b')",
    )
    landing.use(customer_table="contas")
    landing.land()
    landing.write("UPDATE contas SET id = 12 WHERE id = 1", "TRUNCATE contas")
    landing.land()
    assert {event["source"]["table"] for event in landing.events()} == {"contas"}
    assert [event["op"] for event in landing.events()] == ["t", "r", "r", "d", "c", "t"]


def test_one_great_transaction_and_many_row_groups(started: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BATCH_ROWS", 100)
    monkeypatch.setattr(events, "GROUP_BYTES", 50_000)
    started.write("INSERT INTO usuarios (nome, email, cpf) SELECT i, i, i FROM generate_series(1, 5000) i")
    assert started.land().rows == 5_000
    landed = [event for event in started.events() if event["op"] == "c"]
    assert [event["change_seq"] for event in landed] == list(range(5_000))
    assert [event["after"]["nome"] for event in landed] == [str(i) for i in range(1, 5_001)]


def test_a_lake_on_s3_is_served_alike(landing: Landing, bucket: str) -> None:
    landing.use(lake_uri=f"s3://{bucket}/lake")
    landing.write(person("Ana"))
    landing.land()
    landing.write(person("Bia"))
    landing.land()
    lake = open_lake(landing.settings.lake_uri)
    bodies = [lake.read(key)[0] for key in sorted(lake.keys("raw/customer/usuarios"))]
    tables = [pq.read_table(pa.BufferReader(body)) for body in bodies]
    assert [table["op"].to_pylist() for table in tables if table.num_rows] == [["t", "r"], ["c"]]


def test_a_stream_that_makes_no_progress_is_given_up(started: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers each ping, but never comes to the end of a range that lies beyond all it has written."""
    monkeypatch.setattr(replication, "PING_SECONDS", 0.01)
    monkeypatch.setattr(replication, "PATIENCE_SECONDS", 0.3)
    started.write(person("Bia"))
    state = started.state
    with closing(server.connect(started.customer.dsn, replication=True)) as connection:
        messages = replication.stream(
            connection, slot=state["slot"], publication="lakehouse_usuarios", start=state["position"], end=1 << 62
        )
        with pytest.raises(TransientError, match="nothing new"):
            list(messages)
    assert started.land().rows == 1


def test_landing_takes_no_lock_beyond_a_reads(started: Landing) -> None:
    """EXCLUSIVE lets reads pass and nothing else: with it held, not even the application can write a row."""
    started.write(person("Bia"))
    with psycopg.connect(started.customer.admin_dsn) as connection:
        connection.execute("LOCK TABLE usuarios IN EXCLUSIVE MODE")
        assert started.land().rows == 1


def test_nothing_is_locked_while_changes_are_streamed(started: Landing) -> None:
    started.write(person("Bia"))
    state, locks = started.state, "SELECT mode FROM pg_locks WHERE relation = 'usuarios'::regclass"
    with closing(server.connect(started.customer.dsn, replication=True)) as connection:
        messages = replication.stream(
            connection, slot=state["slot"], publication="lakehouse_usuarios", start=state["position"], end=1 << 62
        )
        assert next(messages)
        assert started.admin(locks) == []


def test_landing_again_and_again_while_the_application_writes(started: Landing) -> None:
    stop = threading.Event()
    writer = threading.Thread(
        target=customer_app.write_changes, args=[started.customer.app_dsn], kwargs={"stop": stop, "changes": 6_000}
    )
    writer.start()
    try:
        while writer.is_alive():
            started.land()
    finally:
        stop.set()
        writer.join()
    started.land()
    assert len(started.changes()) == 6_000
    assert started.replayed() == started.live()
