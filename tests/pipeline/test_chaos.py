"""Everything fails at once, for a short while; `python -m benchmarks.chaos` does the same for as long as you like."""

from pathlib import Path

from benchmarks import chaos


def test_kills_crashes_and_a_promotion_leave_no_fault(tmp_path: Path) -> None:
    """Change-data faults, K1 and D1: kills of the loader and of dbt, a crash of both servers and a promotion."""
    counts = chaos.run(tmp_path, kills=20, crashes=1, promotions=1, dbt_kills=1, seed=1)
    assert (counts.lost, counts.twice, counts.wrong, counts.curated_wrong, counts.gaps) == (0, 0, 0, 0, 0), counts
    assert (counts.kills, counts.crashes, counts.promotions) == (20, 1, 1)
    assert counts.landed == counts.audited > 100
    assert counts.kills_in_mid_landing
