"""What the platform costs in a month: measured counts times unit prices, and assumptions for what nobody measured.

The counts stand in counts.yaml (`python -m benchmarks.counts` writes them), prices in prices.yaml, assumptions in
assumptions.yaml. Nothing here was compared with a bill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra import deploy

HERE = Path(__file__).parent
REGIONS = ("us-east-1", "sa-east-1")
DAY = 1440  # minutes
GB, TB, MB = 10**9, 10**12, 10**6
ATHENA_MINIMUM = 10 * MB  # a query is charged as if it scanned so much at least
APPENDED = ("curated.user_changes",)  # no row of it is ever replaced
MERGED = ("curated.characters",)  # though its number of rows stays the same


@cache
def read(name: str) -> dict[str, Any]:
    """infra/cost/NAME.yaml."""
    return yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))


RATES = tuple(read("counts")["landing"])  # changes a day


def assumed(name: str) -> Any:
    return read("assumptions")[name]["value"]


@dataclass(frozen=True)
class Plan:
    """A way to run the platform: where, how many changes a day, how often, and with what."""

    region: str
    rate: int
    period: float = 5  # minutes from one run to the next
    warehouse_period: float | None = None  # minutes from one refresh of refined to the next, where not each run does
    warehouse: bool = True  # else Athena builds refined too
    airflow: str = "mwaa"  # or "own", on a machine of ours
    airflow_class: str | None = None
    nat: bool = True
    stream: bool = False  # Kinesis and Firehose beside it all
    long_values: bool = False  # in each run some update left a long value out, which has to be completed
    merges_read_rows: bool = False  # a merge reads its target's whole rows; else its keys alone. Not known of Athena

    @property
    def runs(self) -> float:
        """A day."""
        return DAY / self.period

    def price(self, name: str) -> float:
        return read("prices")["prices"][name][self.region][0]


def monthly(plan: Plan) -> dict[str, float]:
    """Dollars a month, by what they are for."""
    days, hours = assumed("month_days"), assumed("month_hours")
    requests = s3_requests(plan)
    return {
        "Airflow": airflow(plan)
        + plan.price("airflow_storage") * assumed("airflow_storage_gb") * (plan.airflow == "mwaa"),
        "Redshift": warehouse(plan) * days,
        "Athena": (athena_bytes(plan) * plan.price("athena") / TB) * days,
        "S3 requests": days
        * (requests["writes"] * plan.price("storage_writes") + requests["reads"] * plan.price("storage_reads"))
        / 1000,
        "Storage": storage(plan),
        "NAT gateway": plan.nat
        * (
            hours * (plan.price("nat") + plan.price("address"))
            + days * plan.runs * assumed("nat_gb_per_cycle") * plan.price("nat_data")
        ),
        "Logs and alarms": logs(plan) * days + alarms(plan),
        "Keys, secrets, catalogue": keys(plan, sum(requests.values()) * days),
        **({"Kinesis and Firehose": stream(plan)} if plan.stream else {}),
    }


def total(plan: Plan) -> float:
    return sum(monthly(plan).values())


# ---- engines


def airflow(plan: Plan) -> float:
    hours = assumed("month_hours")
    if plan.airflow == "mwaa":
        return hours * plan.price(f"airflow_{plan.airflow_class or assumed('airflow_class')}")
    return hours * plan.price("machine") + assumed("own_disk_gb") * plan.price("disk")


def warehouse_hours(plan: Plan, rpus: float | None = None) -> float:
    """RPU-hours a day: each refresh is charged for a minute at least, and so are analysts."""
    if not plan.warehouse:
        return 0
    seconds = max(60, assumed("warehouse_seconds"), assumed("warehouse_seconds_per_gb") * refresh_bytes(plan) / GB)
    refreshes = DAY / (plan.warehouse_period or plan.period)
    return (rpus or assumed("warehouse_rpus")) * (refreshes * seconds / 3600 + assumed("analyst_hours"))


def warehouse(plan: Plan) -> float:
    """Dollars a day."""
    return warehouse_hours(plan) * plan.price("warehouse")


def refresh_bytes(plan: Plan) -> float:
    """What a refresh of refined reads of curated."""
    return sum(
        times_width[1] * rows(plan, where)
        for line in read("counts")["athena"]["refined"]["reads"]
        for where, times_width in line["of"].items()
        if where.startswith("curated.")
    )


def athena_runs(plan: Plan) -> dict[str, float]:
    """How often a day dbt sends each set of statements to Athena."""
    lake = "lake_with_long_values" if plan.long_values else "lake"
    return {lake: plan.runs, "daily": 1, **({} if plan.warehouse else {"refined": plan.runs})}


def athena_bytes(plan: Plan) -> float:
    """What Athena charges a day for; tables that are merged into are packed each night, which reads them whole."""
    packing = sum(
        stored_bytes(plan, table) for table, held in read("counts")["tables"].items() if held["grows_with"] == "people"
    )
    return packing + sum(
        times * charged(plan, line)
        for name, times in athena_runs(plan).items()
        for line in read("counts")["athena"][name]["reads"]
    )


def charged(plan: Plan, line: Mapping[str, Any]) -> float:
    """Bytes that Athena charges for a line's statements."""
    scanned = sum(width * rows(plan, where) for where, (_, width) in line["of"].items())
    if plan.merges_read_rows and line["kind"] == "merge":
        scanned += sum(stored_bytes(plan, where.split()[0]) for where in line["of"] if where.endswith(" all"))
    return line["count"] * max(ATHENA_MINIMUM, scanned)


# ---- tables


def units(plan: Plan) -> dict[str, float]:
    """How many there are of what tables grow with, after `history_days`."""
    days = assumed("history_days")
    people = plan.rate * assumed("people_per_daily_change")
    return {
        "changes": people + plan.rate * days,
        "updates": plan.rate * days,
        "people": people + plan.rate * assumed("new_people_share") * days,
        "windows": 288 * days,
        "crawls": plan.runs * days,
        "fixed": 1,
    }


def rows(plan: Plan, where: str) -> float:
    """Rows that a pass reads: `where` is a table and the part of it that pruning leaves, "curated.users all"."""
    table, part = where.split()
    held = read("counts")["tables"].get(table)
    if held is None:
        return 0  # the masking key: one row
    grows, each = held["grows_with"], held["rows"]
    everything = each * units(plan)[grows]
    if part == "all" or grows == "fixed" or (grows == "people" and part == "recent"):
        return everything
    in_a_run = {"changes": plan.rate / plan.runs, "updates": plan.rate / plan.runs, "people": plan.rate / plan.runs}
    if part == "new":
        return each * in_a_run.get(grows, 1)
    a_day = {"changes": plan.rate, "updates": plan.rate, "windows": 288, "crawls": plan.runs}[grows]
    packed = 0 if table.startswith("raw.") else assumed("packed_bytes") / width(table)
    return min(everything, each * a_day * assumed("recent_days") + packed)


def width(table: str) -> float:
    """Bytes of a whole row."""
    return sum(read("counts")["tables"][table]["bytes_per_row"].values())


def stored_bytes(plan: Plan, table: str) -> float:
    return rows(plan, f"{table} all") * width(table)


# ---- storage and requests


def s3_requests(plan: Plan) -> dict[str, float]:
    """Requests a day: writes and lists, reads."""
    counts, runs = read("counts"), athena_runs(plan)
    landing = counts["landing"][plan.rate]
    found = {
        "writes": plan.runs * landing["s3_writes_and_lists"],
        "reads": plan.runs * landing["s3_reads"],
    }
    for name, times in runs.items():
        found["writes"] += times * counts["athena"][name]["statements"] * assumed("writes_per_statement")
    if plan.warehouse:  # Redshift reads curated's files itself
        runs["refined"] = DAY / (plan.warehouse_period or plan.period)
    for name, times in runs.items():
        for line in counts["athena"][name]["reads"]:
            for where, (passes, _) in line["of"].items():
                for kind, number in pass_requests(plan, *where.split()).items():
                    found[kind] += times * line["count"] * passes * number
    return found


def pass_requests(plan: Plan, table: str, part: str) -> dict[str, float]:
    """Requests of one pass over a part of a table."""
    commits = assumed("commits") * 5 / plan.period
    if table.startswith("raw."):
        batches = assumed("raw_files") * 5 / plan.period
        if part != "all":
            return {"writes": 2, "reads": batches}
        return {"writes": assumed("projected_days"), "reads": assumed("history_days") + batches}
    grows = read("counts")["tables"].get(table, {}).get("grows_with", "fixed")
    if grows == "fixed" and table not in MERGED:  # made anew by each run
        return {"reads": 3 + assumed("reads_per_file")}
    small = 1 if part == "new" else commits * (1 if table in APPENDED else 2)
    return {"reads": assumed("reads_per_iceberg_scan") * 5 / plan.period + small + assumed("reads_per_file")}


def storage(plan: Plan) -> float:
    sizes = {table: stored_bytes(plan, table) for table in read("counts")["tables"]}
    raw = sum(size for table, size in sizes.items() if table.startswith("raw.")) * assumed("kept_copies")
    curated = sum(size for table, size in sizes.items() if table.startswith("curated."))
    refined = sum(size for table, size in sizes.items() if table.startswith("refined."))
    in_s3 = raw + (curated + (0 if plan.warehouse else refined)) * assumed("table_copies")
    return in_s3 / GB * plan.price("storage") + (
        refined / GB * plan.price("warehouse_storage") if plan.warehouse else 0
    )


def logs(plan: Plan) -> float:
    """Dollars a day; what is kept is charged month by month, which a day's bytes pay for in advance."""
    size = plan.runs * assumed("run_log_bytes") * (1 + assumed("other_log_share")) / GB
    return size * (plan.price("log") + plan.price("log_storage") * assumed("log_months"))


def alarms(plan: Plan) -> float:
    """Those of the templates, and a metric for each filter as if it counted something each month."""
    return resources("AWS::CloudWatch::Alarm") * plan.price("alarm") + resources(
        "AWS::Logs::MetricFilter"
    ) * plan.price("metric")


def keys(plan: Plan, requests: float) -> float:
    catalogue = sum(
        times * number
        for name, times in athena_runs(plan).items()
        for call, number in read("counts")["athena"][name]["requests"].items()
        if call.startswith("glue:")
    )
    return (
        resources("AWS::KMS::Key") * assumed("key_versions") * plan.price("key")
        + requests * assumed("key_requests_share") * plan.price("key_requests") / 10_000
        + resources("AWS::SecretsManager::Secret") * plan.price("secret")
        + catalogue * assumed("month_days") * plan.price("catalogue") / 10**6
    )


@cache
def resources(kind: str) -> int:
    """How many of a type the templates make without a condition."""
    return sum(
        resource["Type"] == kind and "Condition" not in resource
        for stack in deploy.STACKS
        for resource in deploy.read_template(stack)["Resources"].values()
    )


def stream(plan: Plan) -> float:
    """Kinesis on demand and Firehose, in the loader's place."""
    days = assumed("month_days")
    size = plan.rate * days * assumed("stream_record_kb") * 1024 / GB
    kept = plan.rate * assumed("stream_days") * assumed("stream_record_kb") * 1024 / GB
    return (
        assumed("month_hours") * plan.price("stream")
        + size * (plan.price("stream_in") + plan.price("stream_out"))
        + kept * plan.price("stream_kept")
        + 5 * size * plan.price("delivery")
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "as the templates make it": {},
    "Athena only: refined there too, no Redshift": {"warehouse": False},
    "hourly warehouse: the lake every five minutes, refined every hour": {"warehouse_period": 60},
    "a run every 15 minutes": {"period": 15},
    "a run every hour": {"period": 60},
    "MWAA's smallest class": {"airflow_class": "micro"},
    "an Airflow of our own on one machine": {"airflow": "own"},
    "no NAT gateway": {"nat": False},
    "Kinesis and Firehose besides": {"stream": True},
    "if a merge reads whole rows, not keys alone": {"merges_read_rows": True},
    "each run has to complete long values": {"long_values": True},
    "Athena only, own Airflow": {"warehouse": False, "airflow": "own"},
}


def variant(region: str, rate: int, name: str) -> Plan:
    return replace(Plan(region, rate), **VARIANTS[name])
