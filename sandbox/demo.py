"""`make demo`: run the whole product once, by the commands that a person would type, and say what came of it.

What the settings do not name is embedded: no CUSTOMER_DSN, and the sandbox's own PostgreSQL and customer application
stand in; no DISNEY_API_URL, and the stand-in of the API does; no masking key in settings or vault, and one is made up.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loaders import duckdb_file, settings, verify
from loaders.errors import LoaderError
from sandbox import cost_export, customer_app, disney_api, home, postgres, world

ROOT = Path(__file__).parent.parent
SAMPLE = """
    select user_key[:8] || '…' as user_key, masked_name, masked_email, masked_cpf, age_band, state_code
    from refined.dim_users where not is_deleted order by user_key limit 5
"""
COST = """
    select currency_code, layer, sum(cost)::decimal(18, 2) as cost, sum(untagged_cost)::decimal(18, 2) as untagged_cost
    from refined.mart_platform_cost group by all order by all
"""
RELATIONS = """
    select table_schema, table_name from information_schema.tables
    where table_schema in ('staging', 'curated', 'refined')
    order by list_position(['staging', 'curated', 'refined'], table_schema), table_name
"""


@dataclass
class Demo:
    """One run: its settings (secrets among them), where it speaks, and how long each step took in seconds."""

    environment: dict[str, str] = field(repr=False)
    console: Console = field(default_factory=Console, repr=False)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> settings.Settings:
        return settings.from_environment(self.environment)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        with self.console.status(name):
            yield
        self.seconds[name] = time.monotonic() - started
        self.console.print(f"[green]✓[/] {name} [dim]{self.seconds[name]:.1f} s[/]")

    def command(self, name: str, *arguments: str) -> str:
        """Run a command of the project's environment as one step; on failure show what it said, and stop."""
        with self.step(name):
            done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True)
            if done.returncode:
                failure = f"{name} failed: {' '.join(arguments)} exited with {done.returncode}"
                sys.exit(f"{done.stdout}{done.stderr}\n{failure}")
        return done.stdout

    def loader(self, name: str, *arguments: str) -> dict:
        return json.loads(self.command(name, sys.executable, "-m", "loaders", *arguments).splitlines()[-1])

    def dbt(self, name: str, *arguments: str, must_succeed: bool = True) -> None:
        """Run dbt as one step, within this process: a start of dbt costs 4 s of CPU."""
        from dbt.cli.main import dbtRunner

        def show(event: Any) -> None:  # as dbt's --quiet does, but for the traceback of an interrupt
            if event.info.level == "error" and event.info.name not in ("MainEncounteredError", "MainStackTrace"):
                self.console.print(event.info.msg, markup=False, highlight=False)

        os.environ |= self.environment
        with self.step(name):
            done = dbtRunner(callbacks=[show]).invoke(["--log-level", "none", *arguments])
            if isinstance(done.exception, KeyboardInterrupt):
                raise done.exception
            if must_succeed and not done.success:
                sys.exit(f"{name} failed: {done.exception or 'see above'}")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("demo", help="run the whole product once and print what came of it")
    parser.add_argument("--people", type=int, default=20_000, help="how many people to begin with (%(default)s)")
    parser.add_argument("--changes", type=int, default=1_000, help="how many changes to write (%(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    demo = Demo(dict(os.environ))
    settings.from_environment()  # wrong ones are refused before anything is started
    with ExitStack() as until_done:
        write_changes = customer_database(demo, until_done, options.people)
        character_api(demo, until_done)
        cost_report(demo)
        masking_key(demo)
        landed = {"characters": demo.loader("Land the Disney API's characters", "disney")}
        landed["snapshot or changes"] = demo.loader("Land the users", "users")
        if write_changes:
            with demo.step(f"The customer application writes {options.changes:,} changes"):
                write_changes(options.changes)
            landed["changes"] = demo.loader("Land the changes", "users")
        lake, warehouse = settings.targets(demo.environment)
        if lake == warehouse:
            demo.dbt("Build and test staging, curated and refined", "build")  # its target is the profile's own
        else:
            demo.dbt("Build and test staging and curated", "build", "--target", lake, "--selector", "lake")
            demo.dbt("Build and test refined", "build", "--target", warehouse, "--selector", "warehouse")
        verified = compare(demo)
        demo.dbt("Check the sources' freshness", "source", "freshness", must_succeed=False)  # the summary shows it
        demo.dbt("Make the docs site", "docs", "generate", "--static")
    console = demo.console
    console.print(table("Landed in this run", ["what", "rows", "range"], [
        (what, f"{said['rows']:,}", said["range"] or said["batch_id"] or "nothing new") for what, said in landed.items()
    ]))  # fmt: skip
    if lake == warehouse == "local":
        show_tables(demo)
    counts = ("rows", "missing", "extra", "different", "repeated")
    console.print(table("The lake against the customer table", ["LSN", *counts], [
        (verified.lsn, *(f"{getattr(verified, count):,}" for count in counts))
    ]))  # fmt: skip
    console.print(table("Sources", ["source", "newest row (UTC)", "status"], freshness()))
    console.print(table("Time", ["step", "seconds"], [
        (name, f"{seconds:.1f}") for name, seconds in [*demo.seconds.items(), ("all", sum(demo.seconds.values()))]
    ]))  # fmt: skip
    console.print(f"Docs site: {documents() / 'static_index.html'} (or `make docs`)")
    if not verified.is_equal:
        sys.exit("The lake differs from the customer table: `python -m loaders verify --keys` names the ids")


def customer_database(demo: Demo, until_done: ExitStack, people: int) -> Callable[[int], None] | None:
    """Point the settings at the sandbox's database, unless they name another; returns what writes to it."""
    if demo.environment.get("CUSTOMER_DSN"):
        return None
    with demo.step("Start the customer database and its standby"):
        if postgres.running(home()) is None:
            until_done.callback(postgres.stop, home())
        database = world.prepare(people)
    demo.environment |= {"CUSTOMER_DSN": database.dsn, "CUSTOMER_SNAPSHOT_DSN": database.snapshot_dsn}
    return lambda changes: customer_app.write_changes(database.app_dsn, changes=changes, seed=secrets.randbits(32))


def character_api(demo: Demo, until_done: ExitStack) -> None:
    """Point the settings at the stand-in of the Disney API, unless they name a server; it changes from run to run."""
    if demo.environment.get("DISNEY_API_URL"):
        return
    api = until_done.enter_context(disney_api.DisneyApi())
    lake = demo.settings.lake_uri
    if "://" not in lake:
        for seed, _ in enumerate(Path(lake).glob("raw/disney/characters/*/*.parquet")):
            api.change(seed)
    demo.environment["DISNEY_API_URL"] = api.url


def cost_report(demo: Demo) -> None:
    """Let the stand-in of AWS deliver to a lake on this machine; from the second time on last month has ended."""
    lake = Path(demo.settings.lake_uri)
    if "://" not in demo.settings.lake_uri:
        with demo.step("AWS delivers a made-up cost report"):
            before = any(lake.glob(f"raw/aws/{cost_export.EXPORT}/data/*/{cost_export.EXPORT}-*"))
            cost_export.deliver(lake, datetime.now(UTC).date(), ended=before)


def masking_key(demo: Demo) -> None:
    """Fill the vault."""
    given = demo.environment
    demo.environment = given | world.new_masking_key(given)
    demo.loader("Keep the masking key in the vault", "key")
    demo.environment = given


def compare(demo: Demo) -> verify.Verified:
    """Verify the lake as one step, within this process for the same reason as dbt."""
    with demo.step("Compare the lake with the customer table"):
        try:
            return verify.verify(demo.settings)
        except LoaderError as error:
            sys.exit(str(error))


def show_tables(demo: Demo) -> None:
    """Print what DuckDB holds now: rows by relation, a few masked users, and cost by layer."""
    with duckdb_file.connect(demo.settings.duckdb_path, read_only=True) as connection:
        relations = connection.sql(RELATIONS).fetchall()
        counts = [
            connection.sql('select count(*) from "{}"."{}"'.format(*names)).fetchall()[0][0] for names in relations
        ]
        samples = [
            (title, sample.columns, sample.fetchall())
            for title, sample in {
                "Masked users (refined.dim_users)": connection.sql(SAMPLE),
                "What the platform costs, made up (refined.mart_platform_cost)": connection.sql(COST),
            }.items()
        ]
    demo.console.print(table("Rows by layer", ["layer", "relation", "rows"], [
        (*names, f"{count:,}") for names, count in zip(relations, counts, strict=True)
    ]))  # fmt: skip
    for sample in samples:
        demo.console.print(table(*sample))


def documents() -> Path:
    """The folder that dbt writes its documents to."""
    return ROOT / "dbt_project" / (os.environ.get("DBT_TARGET_PATH") or "target")


def freshness() -> list[tuple]:
    results = json.loads((documents() / "sources.json").read_text())["results"]
    return [
        (result["unique_id"].split(".", 2)[2], str(result.get("max_loaded_at"))[:19], result["status"])
        for result in results
    ]


def table(title: str, columns: list[str], rows: list[tuple]) -> Table:
    made = Table(title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name in ("rows", "seconds") else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(str, row))
    return made
