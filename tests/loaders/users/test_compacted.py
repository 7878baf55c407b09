"""The users loader beside compaction: neither disturbs the other."""

import itertools
import json
import threading
from datetime import UTC, datetime

import pytest

from loaders import swap, users
from loaders.compaction import compact
from loaders.errors import TransientError
from loaders.users import slots
from loaders.users.state import Bookmark
from sandbox import customer_app
from tests.loaders.users.conftest import Landing, person, writing


@pytest.fixture(autouse=True)
def closed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """All lands on one day that is long over."""
    monkeypatch.setattr(users.landing, "now", lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))


def test_landing_goes_on_while_files_are_compacted(landing: Landing) -> None:
    customer_app.seed_people(landing.customer.app_dsn, 50)
    landing.land()
    ended = threading.Event()
    compacted = 0

    def land() -> None:
        try:
            for landings in itertools.count(1):
                landing.land()
                if landings >= 15 and compacted:
                    break
        finally:
            ended.set()

    thread = threading.Thread(target=land)
    with writing(landing, per_day=200 * 86_400):
        thread.start()
        while not ended.is_set():
            compacted += compact(landing.settings).files
        thread.join()
    landing.land()
    compact(landing.settings)
    assert len(landing.files()) == 1
    assert landing.replayed() == landing.live()


def test_a_killed_snapshot_is_found_again_by_its_name(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its file had become visible; the batch is pending, so its day is not closed."""
    landing.write(person("Ana"))
    landing.land()
    landing.write(person("Bo"))
    landing.land()

    with monkeypatch.context() as patch, pytest.raises(TransientError, match="killed"):
        patch.setattr(users.landing, "save_position", lambda bookmark: (_ for _ in ()).throw(TransientError("killed")))
        landing.land(resnapshot=True)
    names = {path.name for path in landing.files()}
    assert compact(landing.settings).files == 0
    assert {path.name for path in landing.files()} == names

    landing.write(person("Cid"))
    landing.land()
    assert compact(landing.settings).files == 4
    assert [op for op, *_ in landing.changes()] == ["c", "c"]
    assert landing.replayed() == landing.live()


def test_a_new_epoch_gets_a_new_number_after_compaction(landing: Landing) -> None:
    landing.write(person("Ana"))
    landing.land()
    landing.write(person("Bo"))
    landing.land()
    compact(landing.settings)
    lake = Bookmark(users.open_lake(landing.settings.lake_uri)).lake
    landing.admin("SELECT pg_drop_replication_slot(%s)", landing.state["slot"])  # which nobody would know of
    lake.delete(["state/customer.usuarios.json"])  # the names are all that says which epochs there were
    landing.land(resnapshot=True)
    assert sorted(path.name[:2] for path in landing.files()) == ["1-", "2-"]
    assert landing.replayed() == landing.live()


def test_landing_finishes_what_a_killed_compaction_left(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.write(person("Ana"))
    landing.land()
    landing.write(person("Bo"))
    with monkeypatch.context() as patch:
        patch.setattr(slots, "advance", lambda *_: None)  # so that the slot offers again what was landed
        landing.land()
    lake = users.open_lake(landing.settings.lake_uri)
    bodies = {key: lake.read(key)[0] for key in lake.keys("raw/customer/usuarios")}
    compact(landing.settings)
    for key, body in bodies.items():
        if lake.read(key) is None:
            lake.write(key, body, expected=None)
    body, version = lake.read(swap.KEY)
    lake.write(swap.KEY, json.dumps(json.loads(body) | {"settled": False}).encode(), expected=version)
    assert len(landing.files()) == 3
    with monkeypatch.context() as patch:
        patch.setattr(swap, "finish", lambda _: None)  # where it may not remove files, it still reads each row once
        assert landing.land().rows == 0
    assert len(landing.files()) == 3
    landing.land()
    assert len(landing.files()) == 1
