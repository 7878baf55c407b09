"""Who is erased is gone from every table at the next build, and a full refresh gives the same rows."""

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loaders.erasure import erase
from loaders.settings import Settings, from_environment
from tests.dbt.lakes import Dbt
from tests.dbt.test_any_order import EXAMPLES, MODELS, USERS, Landing, landings, tables_found
from tests.dbt.user_events import COLUMNS, NOON, Event, land, row

CUSTOMER = ("+path:models/curated/customer", "+path:models/refined/customer", "path:models/staging/customer")
BUILD = ("build", "--select", *CUSTOMER, "--exclude-resource-type", "unit_test")
HIS = {
    "nome": "Zebedeu Quaresma",
    "email": "zebedeu@correio.example",
    "cpf": "98765432100",
    "telefone": "11987650000",
    "cep": "01310-777",
    "observacoes": "Zebedeu prefere o turno da tarde",
}


@pytest.fixture
def config(lake: Path) -> Settings:
    return from_environment({"LAKE_URI": str(lake), "VAULT_URI": str(lake.with_name("vault"))})


def test_tables_forget_and_a_full_refresh_agrees(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]], config: Settings, documents: Path
) -> None:
    other = row(8, nome="Marta Vilela", uf="SP")
    whole = row(7, uf="SP", renda_mensal="1234.50", **HIS)
    without_notes = {key: value for key, value in whole.items() if key != "observacoes"}  # TOASTed, unchanged
    events = [
        Event("c", 10, 0, after=other),
        Event("c", 10, 1, after=whole),
        Event("u", 20, 0, after=whole | {"cidade": "Osasco"}),
        Event("u", 30, 0, after=without_notes),
        Event("u", 40, 0, before={"id": "7"}, after=whole | {"id": "9"}),  # moves to another key …
        Event("u", 50, 0, after=without_notes | {"id": "9", "nome": "X"}),
        Event("c", 60, 0, after=whole),  # … and comes back
        Event("d", 70, 0, before={"id": "8"}),
        Event("c", 90, 0, after='{"id":"7","nome":"Zebedeu Quar'),  # set aside
    ]
    land(lake, events[:5], NOON)
    dbt(*BUILD)
    land(lake, events[5:], NOON + timedelta(minutes=5))
    dbt("run", "--select", *MODELS)
    assert query("select full_name, notes from curated.users where user_id = 9") == [("X", HIS["observacoes"])]

    done = erase(config, ["7"])
    assert done.exit_code == 0
    assert (done.events, done.files, done.moved_keys, done.is_finished) == (6, 2, 1, False)
    dbt(*BUILD)
    assert erase(config, ["7"]).is_finished

    assert query("select is_deleted, op, full_name from curated.users where user_id = 7") == [(True, "e", None)]
    assert query("select full_name, notes from curated.users where user_id = 9") == [("X", None)]
    texts = ", ".join(f"{name}::varchar" for name in COLUMNS.values())
    his = "curated.user_versions where 7 in (user_id, previous_user_id)"
    assert query(f"select op, coalesce({texts}) from {his} order by all") == [("d", None), *[("e", None)] * 6]
    assert query("select count(*) from staging.stg_customer__rejected_user_changes") == [(1,)]
    assert files_that_hold("Zebedeu", lake, lake.with_name("logs"), lake.with_name("vault"), documents) == []
    built = tables_found(query)
    dbt("run", "--full-refresh", "--select", *MODELS)
    assert tables_found(query) == built


def files_that_hold(text: str, *places: Path) -> list[str]:
    done = subprocess.run(["grep", "-rlF", "--text", text, *places], capture_output=True, text=True)
    return done.stdout.splitlines()


def test_any_history_is_forgotten_alike(
    dbt: Dbt, lake: Path, query: Callable[..., list[tuple]], config: Settings
) -> None:
    dbt("run", "--select", "+path:models/curated/customer")

    @settings(
        max_examples=max(EXAMPLES // 3, 1),
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(landings(), USERS, st.integers(0, 4))
    def check(landed: list[Landing], user: int, when: int) -> None:
        for path in lake.glob("raw/customer/usuarios/*/[2e]*.parquet"):
            if path.stem != "empty":
                path.unlink()
        at = NOON
        for number, (at, events) in enumerate(landed):
            land(lake, events, at)
            dbt("run", "--select", *MODELS, *([] if number else ["--full-refresh"]))
            if number == min(when, len(landed) - 1):
                erase(config, [str(user)], now=at + timedelta(seconds=1))
                if number % 2:
                    dbt("run", "--select", *MODELS)
        erase(config, [], now=at + timedelta(seconds=2))
        dbt("run", "--select", *MODELS)
        assert query(f"select count(*) from curated.user_versions where user_id = {user} and op not in ('d', 'e')") == [
            (0,)
        ]
        built = tables_found(query)
        dbt("run", "--full-refresh", "--select", *MODELS)
        found = tables_found(query)
        for name, rows in built.items():
            assert found[name] == rows, name

    check()
