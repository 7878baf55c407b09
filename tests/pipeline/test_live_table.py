"""After any mix of changes curated.users equals the live table, and user_versions holds all of its history."""

from collections import defaultdict
from datetime import UTC, datetime

import psycopg

from sandbox import customer_app
from sandbox.postgres import Database
from tests.dbt import user_events
from tests.pipeline.product import Pipeline

# The live table's columns, and those of curated that hold them.
COLUMNS = {"id": "user_id"} | user_events.COLUMNS
# A witness that shares no code with logical decoding: a trigger writes down each change as it happens.
WITNESS = """
    CREATE TABLE testemunha (ordem bigserial PRIMARY KEY, op text, id bigint, status text, cidade text);
    CREATE FUNCTION testemunhar() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
            INSERT INTO testemunha (op, id) VALUES ('d', OLD.id);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO testemunha (op, id, status, cidade)
            VALUES (CASE TG_OP WHEN 'INSERT' THEN 'c' ELSE 'u' END, NEW.id, NEW.status, NEW.cidade);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER testemunhar AFTER INSERT OR UPDATE OR DELETE ON usuarios
        FOR EACH ROW EXECUTE FUNCTION testemunhar();
"""
USERS = ["path:models/staging/customer", "path:models/curated/customer"]
LONG = "x".join(str(number) for number in range(3_000))  # over 2 kB and hard to compress: PostgreSQL TOASTs it


def test_curated_follows_the_live_table_through_every_kind_of_change(pipeline: Pipeline, customer: Database) -> None:
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        app.execute(WITNESS)
        customer_app.seed_people(customer.app_dsn, 300, seed=1)
        first_version = history(app)
        land_and_build(pipeline)  # the snapshot: what happened before it is one `r` version for each user
        assert_equal_to_the_live_table(pipeline, app)
        app.execute("TRUNCATE testemunha")

        customer_app.write_changes(customer.app_dsn, changes=400, seed=2)
        hard_cases(app)
        land_and_build(pipeline)
        assert_equal_to_the_live_table(pipeline, app)
        assert_every_version_is_there(pipeline, app, first_version)

        app.execute("ALTER TABLE usuarios ADD COLUMN apelido text")
        customer_app.write_changes(customer.app_dsn, changes=50, seed=3)
        app.execute("UPDATE usuarios SET apelido = 'Zé', status = 'inativo' WHERE id % 7 = 0")
        pipeline.loaders("users")
        app.execute("ALTER TABLE usuarios RENAME COLUMN apelido TO alcunha")
        app.execute("UPDATE usuarios SET alcunha = NULL, cidade = 'Ouro Preto' WHERE id % 14 = 0")
        app.execute("ALTER TABLE usuarios DROP COLUMN alcunha")
        customer_app.write_changes(customer.app_dsn, changes=50, seed=4)
        land_and_build(pipeline)
        assert_equal_to_the_live_table(pipeline, app)
        assert_every_version_is_there(pipeline, app, first_version)

        app.execute("TRUNCATE usuarios")
        customer_app.seed_people(customer.app_dsn, 40, seed=5)
        land_and_build(pipeline)
        assert_equal_to_the_live_table(pipeline, app)
        assert pipeline.query("select count(*) from curated.users where is_deleted")[0][0] >= 300

        pipeline.dbt("build", "--exclude-resource-type", "unit_test")
        assert_refined_agrees_with_curated(pipeline)
        incremental = curated(pipeline)
        pipeline.dbt("run", "--full-refresh")
        assert curated(pipeline) == incremental


def test_a_lost_slot_ends_in_tombstones_for_what_vanished_meanwhile(pipeline: Pipeline, customer: Database) -> None:
    customer_app.seed_people(customer.app_dsn, 50, seed=1)
    land_and_build(pipeline)
    with psycopg.connect(customer.admin_dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [customer.name]
        )
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        app.execute("DELETE FROM usuarios WHERE id % 5 = 0")
        customer_app.write_changes(customer.app_dsn, changes=30, seed=2)
        assert "is gone" in pipeline.loaders("users")["gap"]["reason"]
        pipeline.dbt("run", "--select", *USERS)
        assert_equal_to_the_live_table(pipeline, app)
        gone = pipeline.query(
            "select count(*) from curated.users where is_deleted and user_id <= 50 and user_id % 5 = 0"
        )
        assert gone == [(10,)]


def land_and_build(pipeline: Pipeline) -> None:
    pipeline.loaders("users")
    pipeline.dbt("run", "--select", *USERS)


def hard_cases(app: psycopg.Connection) -> None:
    """What a mere mix of writes seldom has."""
    with app.transaction():  # several versions within one transaction
        app.execute("UPDATE usuarios SET status = 'ativo' WHERE id = 1")
        app.execute("UPDATE usuarios SET status = 'inativo', telefone = NULL WHERE id = 1")
    with app.transaction():  # born and gone in one transaction
        app.execute("INSERT INTO usuarios (id, nome, email, cpf) VALUES (9001, 'N', 'n@example.org', '1')")
        app.execute("DELETE FROM usuarios WHERE id = 9001")
    with app.transaction(force_rollback=True):  # never happened
        app.execute("DELETE FROM usuarios")
    app.execute("UPDATE usuarios SET id = 9002 WHERE id = (SELECT max(id) FROM usuarios WHERE id < 300)")
    with app.transaction():  # a key that moves away and is taken again
        app.execute("UPDATE usuarios SET id = 9003 WHERE id = 2")
        app.execute("INSERT INTO usuarios (id, nome, email, cpf) VALUES (2, 'Outra', '', '2')")
    app.execute("INSERT INTO usuarios (id, nome, email, cpf) VALUES (9004, 'Longa', 'l@example.org', '3')")
    app.execute("UPDATE usuarios SET observacoes = %s WHERE id IN (3, 9004)", [LONG])
    app.execute("UPDATE usuarios SET cidade = 'Olinda' WHERE id IN (3, 9004)")  # observacoes is not sent again
    app.execute("UPDATE usuarios SET id = 9005 WHERE id = 9004")  # nor here
    app.execute("UPDATE usuarios SET observacoes = E'\"aspas\", \\\\barra\\\\,\\nlinha, ção, \\t🙂' WHERE id = 4")
    app.execute("UPDATE usuarios SET observacoes = '' WHERE id = 5")
    app.execute("UPDATE usuarios SET data_nascimento = NULL, renda_mensal = 0.10, uf = NULL WHERE id = 6")


def live(app: psycopg.Connection) -> dict[int, tuple]:
    """The table's rows by id, their times in UTC without a zone, as the lake has them."""

    def plain(value: object) -> object:
        return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value

    rows = app.execute(f"SELECT {', '.join(COLUMNS)} FROM usuarios").fetchall()
    return {row[0]: tuple(map(plain, row)) for row in rows}


def assert_equal_to_the_live_table(pipeline: Pipeline, app: psycopg.Connection) -> None:
    rows = pipeline.query(f"select {', '.join(COLUMNS.values())} from curated.users where not is_deleted")
    assert {row[0]: row for row in rows} == live(app)
    attributes = [column for column in COLUMNS.values() if column != "user_id"]
    kept = " or ".join(f"{column} is not null" for column in attributes)
    assert pipeline.query(f"select count(*) from curated.users where is_deleted and ({kept})") == [(0,)]
    current = pipeline.query("select user_id from curated.user_versions where is_current")
    assert sorted(user for (user,) in current) == sorted(live(app))


def history(app: psycopg.Connection) -> dict[int, list[tuple]]:
    """What the witness saw of each user, in order."""
    seen = defaultdict(list)
    for op, user, *values in app.execute("SELECT op, id, status, cidade FROM testemunha ORDER BY ordem"):
        seen[user].append((op, *values))
    return seen


def assert_every_version_is_there(
    pipeline: Pipeline, app: psycopg.Connection, first_version: dict[int, list[tuple]]
) -> None:
    expected = {user: [("r", *versions[-1][1:])] for user, versions in first_version.items()}
    for user, versions in history(app).items():
        expected.setdefault(user, []).extend(versions)
    rows = pipeline.query(
        """
        select user_id, op, status, city, valid_from, valid_to from curated.user_versions
        order by user_id, epoch, commit_lsn, change_seq
        """
    )
    found, validity = defaultdict(list), defaultdict(list)
    for user, op, status, city, valid_from, valid_to in rows:
        found[user].append((op, status, city))
        validity[user].append((valid_from, valid_to))
    assert found == expected
    for spans in validity.values():  # each version ends where the next begins
        assert [end for _, end in spans] == [start for start, _ in spans[1:]] + [None]


def assert_refined_agrees_with_curated(pipeline: Pipeline) -> None:
    def one(statement: str) -> tuple:
        return pipeline.query(statement)[0]

    users = one("select count(*), count(*) filter (where is_deleted) from curated.users")
    assert one("select count(*), count(*) filter (where is_deleted) from refined.dim_users") == users
    changes = "select op, count(*) from curated.user_changes group by op order by op"
    assert pipeline.query("select op, sum(changes) from refined.fct_user_changes group by op order by op") == (
        pipeline.query(changes)
    )


def curated(pipeline: Pipeline) -> list[list[tuple]]:
    return [pipeline.query(f"from curated.{name} order by all") for name in ("users", "user_changes", "user_versions")]
