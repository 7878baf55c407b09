"""`python -m infra.cost`: what the platform costs in a month, as docs/cost.md has it; --write puts the tables there."""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from infra import deploy
from infra.cost.model import (
    RATES,
    REGIONS,
    VARIANTS,
    Plan,
    assumed,
    athena_runs,
    charged,
    monthly,
    read,
    refresh_bytes,
    stored_bytes,
    total,
    variant,
    warehouse_hours,
)  # fmt: skip

DOCUMENT = Path(__file__).parents[2] / "docs/cost.md"
COUNTS = Path(__file__).with_name("counts.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.cost", description=__doc__.partition(": ")[2])
    parser.add_argument("--write", action="store_true", help="write the tables into docs/cost.md")
    options = parser.parse_args()
    tables = {name: make() for name, make in TABLES.items()}
    if options.write:
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8"), tables), encoding="utf-8")
    for table in tables.values():
        print(f"{table}\n")


def with_tables(text: str, tables: dict[str, str]) -> str:
    """The text with each table between its markers."""
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in text:
            raise ValueError(f"docs/cost.md has no place for the table '{name}': write {begin} and {end} there")
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = pattern.sub(lambda _, new=f"{begin}\n{table}\n{end}": new, text)
    return text


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table whose first `left` columns are text and whose others are figures."""
    rule = [*["---"] * left, *["---:"] * (len(head) - left)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def dollars(amount: float) -> str:
    """To tens from a hundred on: nothing here is known better."""
    return f"{round(amount, -1):,.0f}" if amount >= 100 else f"{amount:.0f}" if amount >= 0.5 else f"{amount:.1f}"


def rate_name(rate: int) -> str:
    return f"{rate:,} a day"


def costs_table(head: Sequence[str], costs: Sequence[Mapping[str, float]]) -> str:
    lines = [[name, *(dollars(cost[name]) for cost in costs)] for name in costs[0]]
    lines.append(["**all**", *(f"**{dollars(sum(cost.values()))}**" for cost in costs)])
    return markdown(["USD a month", *head], lines)


def by_service() -> str:
    """One table for both regions: what each service costs."""
    plans = [Plan(region, rate) for region in REGIONS for rate in RATES]
    costs = [monthly(plan) for plan in plans]
    return costs_table([f"{plan.region}, {rate_name(plan.rate)}" for plan in plans], costs)


def by_variant() -> str:
    plans = [(region, rate) for region in REGIONS for rate in RATES]
    lines = [[name, *(dollars(total(variant(*plan, name))) for plan in plans)] for name in VARIANTS]
    return markdown(["USD a month", *(f"{region}, {rate_name(rate)}" for region, rate in plans)], lines)


def by_period() -> str:
    """What of the bill follows the period, in the production region at today's rate."""
    periods = (5, 15, 60)
    costs = [monthly(Plan(REGIONS[1], RATES[0], period=period)) for period in periods]
    return costs_table([f"every {period} minutes" for period in periods], costs)


def counts() -> str:
    """What was counted, for one run."""
    held = read("counts")
    lines = [[f"counted: {part}", day] for part, day in held["measured"].items()]
    for rate in RATES:
        landing = held["landing"][rate]
        lines.append([f"landing, {rate_name(rate)}: changes in a run", f"{landing['changes']:,}"])
        lines.append(["… bytes of a change in the run's file", f"{landing['changes_bytes'] / landing['changes']:.0f}"])
        lines.append(["… S3 writes and lists, S3 reads", f"{landing['s3_writes_and_lists']}, {landing['s3_reads']}"])
    lines.append(["bytes of a crawl", f"{held['landing'][RATES[0]]['crawl_bytes']:,}"])
    for name, title in {
        "lake": "Athena, staging and curated",
        "lake_with_long_values": "Athena, the same where a long value has to be completed",
        "refined": "Athena, refined (only where there is no Redshift)",
        "daily": "Athena, the daily build of staging and curated",
    }.items():
        held_run = held["athena"][name]
        lines.append([f"{title}: statements, of them free", f"{held_run['statements']}, {held_run['free']}"])
        for rate in RATES:
            sizes = [charged(Plan(REGIONS[0], rate), line) / 1e9 for line in held_run["reads"]]
            lines.append([f"… GB charged for, {rate_name(rate)}", f"{sum(sizes):,.1f}"])
    lines.append(["Redshift, refined: statements", f"{held['redshift']['statements']}"])
    for rate in RATES:
        lines.append(
            [f"… GB of curated that it reads, {rate_name(rate)}", f"{refresh_bytes(Plan(REGIONS[0], rate)) / 1e9:,.1f}"]
        )
    return markdown(["what", "count"], lines)


def hungriest() -> str:
    """The statements of a run that Athena charges most for."""
    found = [
        (charged(Plan(REGIONS[0], RATES[0]), line), line, run)
        for run in athena_runs(Plan(REGIONS[0], RATES[0], long_values=True, warehouse=False))
        if run != "daily"
        for line in read("counts")["athena"][run]["reads"]
    ]
    lines = [
        [
            line["node"], line["kind"], str(sum(times for times, _ in line["of"].values())),
            *(f"{charged(Plan(REGIONS[0], rate), line) / 1e9:,.2f}" for rate in RATES),
        ]
        for _, line, _ in sorted(found, key=lambda each: -each[0])[:8]
    ]  # fmt: skip
    return markdown(
        ["node", "statement", "passes over tables", *(f"GB, {rate_name(rate)}" for rate in RATES)], lines, left=2
    )


def sizes() -> str:
    """Tables after `history_days`."""
    lines = [
        [table, held["grows_with"], f"{sum(held['bytes_per_row'].values()):.1f}"]
        + [f"{stored_bytes(Plan(REGIONS[0], rate), table) / 1e9:,.2f}" for rate in RATES]
        for table, held in read("counts")["tables"].items()
        if held["grows_with"] != "fixed"
    ]
    return markdown(
        ["table", "grows with", "bytes of a row", *(f"GB, {rate_name(rate)}" for rate in RATES)], lines, left=2
    )


def prices() -> str:
    lines = []
    for held in read("prices")["prices"].values():
        figures = [f"{amount:g}" for amount, _ in (held[region] for region in REGIONS)]
        grades = [source for _, source in (held[region] for region in REGIONS)]
        lines.append([held["unit"], ", ".join(dict.fromkeys(grades)), *figures])
    return markdown(["unit", "source", *REGIONS], lines, left=2)


def sources() -> str:
    lines = [[name, str(held["date"]), held["what"]] for name, held in read("prices")["sources"].items()]
    return markdown(["source", "date", "what it is"], lines, left=3)


def assumptions() -> str:
    lines = [[name, f"{assumed(name):,}" if not isinstance(assumed(name), str) else assumed(name), held["why"]]
             for name, held in read("assumptions").items()]  # fmt: skip
    return markdown(["name", "value", "of what, and why"], lines, left=3)


def limits() -> str:
    """RPU-hours a day beside the limit at which the warehouse stops (infra/environments)."""
    lines = []
    for name in ("dev", "prod"):
        held = yaml.safe_load((deploy.HERE / f"environments/{name}.yaml").read_text(encoding="utf-8"))
        plan, rpus = Plan(held["region"], RATES[0]), held["parameters"]["BaseCapacity"]
        used = [warehouse_hours(each, rpus) for each in (plan, replace(plan, warehouse_period=60))]
        lines.append([f"{name}, {rpus} RPUs", *(f"{hours:.0f}" for hours in used), str(held["usage_limit_rpu_hours"])])
    return markdown(["environment", "every five minutes", "every hour", "stops at"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "by service": by_service,
    "by variant": by_variant,
    "by period": by_period,
    "warehouse": limits,
    "counts": counts,
    "hungriest statements": hungriest,
    "sizes": sizes,
    "prices": prices,
    "price sources": sources,
    "assumptions": assumptions,
}


if __name__ == "__main__":
    main()
