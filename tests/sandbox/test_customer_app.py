import itertools
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sandbox import customer_app, postgres
from sandbox.customer_app import Counts, Statement


def table(dsn: str, columns: str = "*") -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT {columns} FROM usuarios ORDER BY id").fetchall()


def start_over(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE usuarios RESTART IDENTITY")


def ids_from(first: int):
    return itertools.count(first)


# ---------- the table


def test_the_table_is_as_promised(customer: postgres.Database):
    with psycopg.connect(customer.app_dsn) as app:
        columns = app.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'public.usuarios'::regclass AND attnum > 0 ORDER BY attnum"
        ).fetchall()
    assert columns == [
        ("id", "bigint"),
        ("nome", "text"),
        ("email", "text"),
        ("cpf", "text"),
        ("telefone", "text"),
        ("data_nascimento", "date"),
        ("cep", "text"),
        ("cidade", "text"),
        ("uf", "character(2)"),
        ("renda_mensal", "numeric(12,2)"),
        ("status", "text"),
        ("observacoes", "text"),
        ("criado_em", "timestamp with time zone"),
        ("atualizado_em", "timestamp with time zone"),
    ]


def test_create_table_again_changes_nothing(customer: postgres.Database):
    customer_app.seed_people(customer.app_dsn, 3)
    before = table(customer.dsn)
    customer_app.create_table(customer.app_dsn)
    assert table(customer.dsn) == before


def test_seeded_people_are_repeatable_and_some_are_stored_out_of_line(customer: postgres.Database):
    customer_app.seed_people(customer.app_dsn, 500, seed=7)
    first = table(customer.dsn)
    start_over(customer.app_dsn)
    customer_app.seed_people(customer.app_dsn, 500, seed=7)
    assert table(customer.dsn) == first
    assert customer_app.count_people(customer.dsn) == len(first) == 500
    with psycopg.connect(customer.dsn) as loader:
        toasted = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'usuarios'"
        assert loader.execute(toasted).fetchone()[0] > 0


# ---------- what is written


def test_transactions_are_mostly_small_and_now_and_then_large():
    drawn = customer_app.transactions(random.Random(1), list(range(1, 5_001)), ids_from(5_001))
    sizes = [sum(len(s.rows) for s in transaction) for transaction in itertools.islice(drawn, 2_000)]
    assert sum(size <= 3 for size in sizes) / len(sizes) > 0.9
    assert set(range(4, 20)).isdisjoint(sizes)
    assert max(sizes) > 200


def test_every_statement_hits_people_who_exist_and_each_of_them_once():
    alive = set(range(1, 51))  # few, so that all of them leave now and then
    for transaction in itertools.islice(
        customer_app.transactions(random.Random(2), sorted(alive), ids_from(51)), 3_000
    ):
        for kind, hit in ((s.kind, [row["id"] for row in s.rows]) for s in transaction):
            assert len(hit) == len(set(hit))
            if kind == customer_app.INSERT:
                assert alive.isdisjoint(hit)
                alive |= set(hit)
            else:
                assert alive.issuperset(hit)
                if kind == customer_app.DELETE:
                    alive -= set(hit)


def test_all_kinds_of_changes_occur():
    drawn = customer_app.transactions(random.Random(3), list(range(1, 1_001)), ids_from(1_001))
    kinds = Counter(s.kind for transaction in itertools.islice(drawn, 1_000) for s in transaction)
    assert kinds.keys() == customer_app.MIX.keys()


def test_one_person_can_change_twice_in_one_transaction():
    drawn = customer_app.transactions(random.Random(4), list(range(1, 1_001)), ids_from(1_001))
    for transaction in itertools.islice(drawn, 10_000):
        hit = Counter(row["id"] for s in transaction for row in s.rows)
        if max(hit.values()) > 1:
            return
    pytest.fail("nobody did")


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (5, [Statement("insert", [{"id": 1}, {"id": 2}]), Statement("delete", [{"id": 1}])]),
        (2, [Statement("insert", [{"id": 1}, {"id": 2}])]),
        (1, [Statement("insert", [{"id": 1}])]),
    ],
)
def test_a_transaction_is_cut_after_so_many_changes(limit: int, kept: list[Statement]):
    whole = [Statement("insert", [{"id": 1}, {"id": 2}]), Statement("delete", [{"id": 1}])]
    assert customer_app.first_changes(whole, limit) == kept


# ---------- writing


def test_the_same_seed_writes_the_same(customer: postgres.Database):
    columns = f"id, {', '.join(customer_app.COLUMNS)}"
    outcomes = []
    for per_day in (0, 1e9):  # the rate decides when, never what
        start_over(customer.app_dsn)
        customer_app.seed_people(customer.app_dsn, 200)
        counts = customer_app.write_changes(customer.app_dsn, changes=700, seed=3, per_day=per_day)
        outcomes.append((counts, table(customer.dsn, columns)))
    assert outcomes[0] == outcomes[1]
    start_over(customer.app_dsn)
    customer_app.seed_people(customer.app_dsn, 200)
    customer_app.write_changes(customer.app_dsn, changes=700, seed=4)
    assert table(customer.dsn, columns) != outcomes[0][1]


def test_counts_are_what_the_database_logged(customer: postgres.Database):
    customer_app.seed_people(customer.app_dsn, 300)
    with psycopg.connect(customer.dsn, autocommit=True) as loader:
        loader.execute("SELECT pg_create_logical_replication_slot('counter', 'pgoutput')")
        counts = customer_app.write_changes(customer.app_dsn, changes=2_000, seed=1)
        logged = Counter(
            message[:1]
            for (message,) in loader.execute(
                "SELECT data FROM pg_logical_slot_peek_binary_changes('counter', NULL, NULL,"
                " 'proto_version', '1', 'publication_names', 'lakehouse_usuarios')"
            )
        )
    assert counts == Counts(logged[b"C"], logged[b"I"], logged[b"U"], logged[b"D"])
    assert counts.changes == 2_000
    assert len(table(customer.dsn)) == 300 + counts.inserts - counts.deletes


def test_updates_leave_other_columns_alone(customer: postgres.Database):
    customer_app.seed_people(customer.app_dsn, 1)
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        statement = Statement("email", [{"id": 1, "email": "novo@correio.example"}])
        before = app.execute("SELECT * FROM usuarios").fetchone()
        counts = customer_app._commit(app, [[statement]])
        after = app.execute("SELECT * FROM usuarios").fetchone()
    assert counts == Counts(transactions=1, updates=1)
    assert after[2] == "novo@correio.example"
    assert (before[:2], before[3:-1]) == (after[:2], after[3:-1])
    assert after[-1] > before[-1]


def test_what_another_writer_has_deleted_is_not_counted(customer: postgres.Database):
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        assert customer_app._commit(app, [[Statement("delete", [{"id": 1}])]]) == Counts(transactions=1)


def test_a_pace_of_150_000_a_day():
    due = 0.0
    for _ in range(1_000):
        due = customer_app.next_due(due, now=due, changes=3, per_day=150_000)
    assert due == pytest.approx(3_000 / 150_000 * 86_400)


def test_a_short_delay_is_caught_up_and_a_long_one_is_not():
    assert customer_app.next_due(due=100, now=100.5, changes=1, per_day=86_400) == 101
    assert customer_app.next_due(due=100, now=500, changes=1, per_day=86_400) == 500 - customer_app.BURST + 1


def test_it_ends_in_time_even_when_the_next_change_is_due_later(customer: postgres.Database):
    counts = customer_app.write_changes(customer.app_dsn, per_day=1, seconds=0.1)
    assert counts.transactions == 1


def test_a_database_that_is_not_there_is_an_error(customer: postgres.Database):
    with pytest.raises(psycopg.OperationalError):
        customer_app.write_changes(customer.app_dsn.replace(customer.name, "nowhere"), changes=1, patience=60)


def test_writing_survives_a_crash_of_the_database(tmp_path: Path):
    servers = postgres.start(tmp_path)
    database = postgres.create_database(servers, "customer")
    customer_app.create_table(database.app_dsn)
    stop = threading.Event()

    def wait_for_a_newcomer() -> None:
        with psycopg.connect(database.app_dsn, autocommit=True) as app:
            last = app.execute("SELECT max(id) FROM usuarios").fetchone()
            while app.execute("SELECT max(id) FROM usuarios").fetchone() == last:
                assert not writing.done()
                stop.wait(0.02)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(customer_app.write_changes, database.app_dsn, per_day=2e7, patience=120, stop=stop)
        try:
            wait_for_a_newcomer()
            postgres.stop(tmp_path, "immediate")
            postgres.start(tmp_path)
            wait_for_a_newcomer()
        finally:
            stop.set()
            counts = writing.result()
            people = customer_app.count_people(database.app_dsn)
            postgres.stop(tmp_path)
    assert counts.inserts > 0
    assert abs(people - (counts.inserts - counts.deletes)) <= 300  # the transaction whose answer was lost
