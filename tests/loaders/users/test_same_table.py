"""A lake belongs to the table that was landed into it, whatever CUSTOMER_TABLE says."""

import pytest

from loaders.errors import OperatorError
from loaders.users import publication
from loaders.users.state import KEY
from tests.loaders.users.conftest import Landing, person


@pytest.fixture
def started(landing: Landing) -> Landing:
    """A lake that holds the snapshot of Ana and Bia, beside another table that could be landed."""
    landing.write(
        person("Ana"),
        person("Bia"),
        "CREATE TABLE clientes (id int PRIMARY KEY)",
        "GRANT SELECT ON clientes TO lakehouse",
    )
    landing.land()
    return landing


def test_another_table_is_never_landed_into_the_lake(started: Landing) -> None:
    """Issue 10, part 2: following the message turned all users into tombstones.

    KIND: files, bookmark and slot that do not say whose they are, and a remedy that destroys.
    """
    started.use(customer_table="public.clientes", customer_dsn=started.customer.admin_dsn)
    for resnapshot in (False, True):
        with pytest.raises(OperatorError) as raised:
            started.land(resnapshot=resnapshot)
        assert "CUSTOMER_TABLE is public.clientes, but this lake holds public.usuarios" in str(raised.value)
        assert "--resnapshot" not in str(raised.value)
    state = (started.lake / KEY).read_bytes()
    (started.lake / KEY).unlink()  # raw still says whose events it holds
    for resnapshot in (False, True):
        with pytest.raises(OperatorError, match=r"public\.clientes, but this lake holds public\.usuarios"):
            started.land(resnapshot=resnapshot)
    assert not (started.lake / KEY).exists()
    # Nothing was done to the other table either, although the role owns it.
    assert started.admin("SELECT 1 FROM pg_publication WHERE pubname = 'lakehouse_clientes'") == []
    (started.lake / KEY).write_bytes(state)
    started.use(customer_table="public.usuarios")
    started.write(person("Caio"))
    assert started.land().rows == 1
    assert started.replayed() == started.live()


def test_a_table_that_was_renamed_is_the_same(started: Landing) -> None:
    started.write(person("Caio"), "ALTER TABLE usuarios RENAME TO pessoas")
    started.refuses("no ordinary table public.usuarios")
    started.use(customer_table="public.pessoas")
    started.write("UPDATE pessoas SET cidade = 'Recife' WHERE nome = 'Ana'")
    assert started.land().rows == 2
    assert started.state["table"] == "public.pessoas"
    assert [event["source"]["table"] for event in started.events()][-2:] == ["usuarios", "pessoas"]
    started.write("ALTER TABLE pessoas RENAME TO usuarios")
    started.use(customer_table="public.usuarios")
    started.land(resnapshot=True)
    assert started.replayed() == started.live()


def test_an_identity_that_was_another_one_in_mid_range_stops_the_run(started: Landing) -> None:
    """Change-data faults A6. KIND: an assumption of dbt that the loader does not check."""
    started.write("CREATE UNIQUE INDEX por_email ON usuarios (email)")
    started.write("ALTER TABLE usuarios REPLICA IDENTITY USING INDEX por_email")
    started.refuses("name a row by email, and dbt knows it by id")
    started.write(person("Caio"))  # says who it is under any identity
    started.write("UPDATE usuarios SET id = 33 WHERE nome = 'Ana'", "DELETE FROM usuarios WHERE nome = 'Bia'")
    started.write("ALTER TABLE usuarios REPLICA IDENTITY DEFAULT", "DROP INDEX por_email")
    files = started.files()
    for _ in range(2):
        with pytest.raises(OperatorError, match=r"do not say by id which row they are of.*--resnapshot"):
            started.land()
    assert started.files() == files
    started.land(resnapshot=True)
    assert started.replayed() == started.live()


def test_names_are_quoted_as_postgresql_quotes_them(landing: Landing) -> None:
    """Change-data faults G5: a table whose name has a dot, and one that is too long for `lakehouse_` before it."""
    long = "t" * 63
    landing.write(
        'CREATE SCHEMA "sch.ema"',
        'CREATE TABLE "sch.ema"."ta.""ble" (id int PRIMARY KEY, "a.b" text)',
        f"CREATE TABLE public.{long} (id int PRIMARY KEY)",
    )
    landing.use(customer_dsn=landing.customer.admin_dsn, customer_snapshot_dsn=landing.customer.admin_dsn)
    other = Landing(landing.customer, landing.lake.with_name("other"))
    other.use(customer_dsn=landing.customer.admin_dsn, customer_snapshot_dsn=landing.customer.admin_dsn)
    for lake, name, insert in (
        (landing, '"sch.ema"."ta.""ble"', """INSERT INTO "sch.ema"."ta.""ble" VALUES (1, 'x')"""),
        (other, long, f"INSERT INTO {long} VALUES (1)"),
    ):
        lake.use(customer_table=name)
        lake.land()
        lake.write(insert)
        assert lake.land().rows == 1
        assert lake.events()[-1]["source"]["table"] in ('ta."ble', long)
    for wrong in ('"a', "a.b.c", '"a".', ".a", 'a"b'):
        landing.use(customer_table=wrong)
        with pytest.raises(OperatorError, match=r"give schema\.table"):
            landing.land()
    assert publication.qualified("a.b", 'c"d') == '"a.b"."c""d"'
