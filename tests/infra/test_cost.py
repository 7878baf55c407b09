"""What `python -m infra.cost` says of a month, by hand where it can be, and that docs/cost.md says the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import counts
from infra.cost import __main__ as cost
from infra.cost.model import (
    RATES,
    REGIONS,
    VARIANTS,
    Plan,
    charged,
    monthly,
    read,
    total,
    variant,
    warehouse_hours,
)

PLAN = Plan("us-east-1", 150_000)


def test_the_document_says_what_the_script_prints() -> None:
    text = cost.DOCUMENT.read_text()
    tables = {name: make() for name, make in cost.TABLES.items()}
    assert cost.with_tables(text, tables) == text, "run: python -m infra.cost --write"


def test_each_price_names_a_dated_source_in_both_regions() -> None:
    sources = read("prices")["sources"]
    assert all(source["date"] and source["what"] for source in sources.values())
    for name, held in read("prices")["prices"].items():
        assert held["unit"], name
        assert all(held[region][0] > 0 and held[region][1] in sources for region in REGIONS), name
    assert all(held["why"] for held in read("assumptions").values())


def test_the_warehouse_is_charged_a_minute_for_each_refresh_and_an_hour_of_analysts() -> None:
    assert warehouse_hours(PLAN) == pytest.approx(8 * (288 / 60 + 1))
    assert warehouse_hours(variant("us-east-1", 150_000, "a run every hour")) == pytest.approx(8 * (24 / 60 + 1))
    assert monthly(PLAN)["Redshift"] == pytest.approx(8 * 5.8 * 0.375 * 30.42)


def test_a_statement_is_charged_for_ten_megabytes_at_least() -> None:
    assert charged(PLAN, {"kind": "select", "count": 2, "of": {}}) == 20_000_000
    people = 150_000 * 15.3333 + 150_000 * 0.05 * 365
    whole = {"kind": "select", "count": 1, "of": {"curated.users all": [2, 20.0]}}
    assert charged(PLAN, whole) == pytest.approx(20 * people)


def test_no_run_asks_raw_for_all_its_days() -> None:
    """To list every day that an external table may have would cost hundreds of dollars a month."""
    asked = [where for line in read("counts")["athena"]["lake"]["reads"] for where in line["of"]]
    assert any(where.startswith("raw.") for where in asked)
    assert [where for where in asked if where.startswith("raw.") and where.endswith(" all")] == []


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", VARIANTS)
def test_more_changes_never_cost_less(region: str, name: str) -> None:
    totals = [total(variant(region, rate, name)) for rate in RATES]
    assert totals == sorted(totals)


def test_a_document_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the table 'prices'"):
        cost.with_tables("# Cost\n", {"prices": "| unit |"})


def test_the_landing_is_counted_again_by_one_command(tmp_path: Path) -> None:
    output = tmp_path / "counts.yaml"
    command = [sys.executable, "-m", "benchmarks.counts", "--only", "landing", "--quick", "--output", str(output)]
    done = subprocess.run([*command, "--work", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again, held = (counts.yaml.safe_load(path.read_text())["landing"][150_000] for path in (output, cost.COUNTS))
    assert again["changes"] == held["changes"]
    for name in ("s3_writes_and_lists", "s3_reads", "secret_reads"):
        assert again[name] == held[name], "run: python -m benchmarks.counts"


def test_quick_counts_do_not_reach_the_prices() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.counts", "--quick"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--output" in done.stderr
