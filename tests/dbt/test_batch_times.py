"""Every batch that lands is built, whatever the landing host's clock says and however late a killed run is finished."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from loaders import users
from loaders.erasure import erase
from loaders.raw import USER_CHANGES
from sandbox.postgres import Database
from tests.dbt.lakes import Dbt
from tests.loaders.users.conftest import Landing, person

DAY = datetime(2026, 3, 10, 12, tzinfo=UTC)
TABLES = ["user_changes", "incomplete_moves", "completed_user_changes", "users"]


def test_batches_are_built_whatever_the_clock_said_and_however_late_a_killed_run_is_finished(
    dbt: Dbt,
    lake: Path,
    customer: Database,
    query: Callable[..., list[tuple]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Change-data faults F1 (a range begun on day D, ended after something younger was built) and F2 (a slow clock)."""
    landing = Landing(customer, lake)

    def land(days: float) -> None:
        monkeypatch.setattr(users.landing, "now", lambda: DAY + timedelta(days=days))
        landing.land()

    def built() -> list[str]:
        dbt("run", "--select", *TABLES)
        return [name for (name,) in query("select full_name from curated.users where not is_deleted order by 1")]

    landing.write(person("Ana"), person("Bia"))
    land(0)
    dbt("run", "--select", "+users")

    landing.write(person("Caio"))
    land(-3)  # F2
    assert "259200 s behind the last batch" in caplog.text
    landing.write(person("Davi"))
    land(0.1)
    assert built() == ["Ana", "Bia", "Caio", "Davi"]

    # F1: killed right after its intent was saved, on a day on which something had been built.
    landing.write(person("Eva"))
    with monkeypatch.context() as patch:
        patch.setattr(users.landing, "land_file", lambda *_: pytest.fail("killed", pytrace=False))
        with pytest.raises(pytest.fail.Exception):
            land(0.2)
    config = landing.settings
    assert erase(config, [found_id(landing, "Ana")], now=DAY + timedelta(days=3)).is_raw_clean
    assert built() == ["Bia", "Caio", "Davi"]
    land(3.1)
    # an erasure on a host whose clock is behind
    assert erase(config, [found_id(landing, "Bia")], now=DAY - timedelta(days=9)).is_raw_clean
    assert built() == ["Caio", "Davi", "Eva"]

    # A clock that ran ahead once: the batches after it do not fall behind it.
    landing.write(person("Fabio"))
    land(400)
    landing.write(person("Gil"))
    land(3.2)
    assert built() == ["Caio", "Davi", "Eva", "Fabio", "Gil"]
    keys = [path.stem for path in (lake / "raw" / USER_CHANGES.name).rglob("1-*.parquet")]
    assert len(keys) == len(set(keys)) == 6


def found_id(landing: Landing, name: str) -> str:
    [(user_id,)] = landing.admin("SELECT id::text FROM usuarios WHERE nome = %s", name)
    return user_id
