"""How much WAL the server keeps for us: measured on a real server, told in what a run landed, alerted on."""

import time

import psycopg

from loaders.raw import Landed
from loaders.watch import alerts_of_landing
from tests.loaders.users.conftest import Landing, person

BURST = 4_000_000  # bytes of WAL, none of it ours


def burst(landing: Landing) -> None:
    landing.admin("SELECT pg_logical_emit_message(true, 'test', repeat('x', %s))", BURST)


def land_until_below(landing: Landing, lag: int) -> Landed:
    """Land until the server has let go. It does so at the records, one in 15 s, that say which transactions run."""
    deadline = time.monotonic() + 60
    while True:
        landing.admin("SELECT pg_log_standby_snapshot()")
        landed = landing.land()
        if landed.slot_lag_bytes < lag or time.monotonic() > deadline:
            return landed


def test_it_grows_while_nothing_lands_and_shrinks_after(landing: Landing) -> None:
    landing.write(person("Ana"))
    assert landing.land().slot_lag_bytes is None  # the snapshot begins with a new slot
    calm = land_until_below(landing, BURST)
    assert 0 <= calm.slot_lag_bytes < BURST
    assert alerts_of_landing(calm, BURST) == []

    burst(landing)
    burst(landing)
    grown = landing.land()
    assert 2 * BURST < grown.slot_lag_bytes < 2 * BURST + (16 << 20)
    (alert,) = alerts_of_landing(grown, BURST)
    assert alert.facts == {"slot_lag_bytes": grown.slot_lag_bytes, "limit_bytes": BURST}

    assert 0 <= land_until_below(landing, BURST).slot_lag_bytes < BURST


def test_a_run_that_lands_rows_tells_it_as_well(landing: Landing) -> None:
    landing.land()
    landing.write(person("Ana"))
    burst(landing)
    landed = landing.land()
    assert landed.rows == 1
    assert landed.slot_lag_bytes > BURST


def test_an_open_transaction_keeps_the_server_from_letting_go(landing: Landing) -> None:
    """Runs succeed and the lag grows all the same: only this number tells."""
    landing.land()
    land_until_below(landing, BURST)
    with psycopg.connect(landing.customer.app_dsn) as application:
        application.execute(person("Ana"))
        burst(landing)
        for _ in range(3):
            landing.admin("SELECT pg_log_standby_snapshot()")
            assert landing.land().rows == 0
        assert landing.land().slot_lag_bytes > BURST
    assert landing.land().rows == 1
