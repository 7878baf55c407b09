"""The figures of one benchmark, as a table on the terminal and as Markdown between markers in a document."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "dlt", "connectorx", "psycopg", "pyarrow", "requests")


@dataclass(frozen=True)
class Target:
    """What was asked for, and what came of it."""

    text: str
    found: str
    met: bool


@dataclass(frozen=True)
class Section:
    """One table; the first column says what was measured, the others hold its figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target]
    notes: Sequence[str] = ()


def show(section: Section, console: Console) -> None:
    """Print the section."""
    table = Table(title=section.title, title_justify="left")
    for number, column in enumerate(section.columns):
        table.add_column(column, justify="right" if number else "left")
    for row in section.rows:
        table.add_row(*row)
    console.print(table)
    for target in section.targets:
        mark = "[green]reached[/]" if target.met else "[red]missed[/]"
        console.print(f"{mark}: {target.text}; found {target.found}")
    for note in section.notes:
        console.print(note)


def write(path: Path, name: str, section: Section) -> None:
    """Put the section between its markers; a document that is missing, or has no such markers, gains them."""
    begin, end = f"<!-- figures of {name}: begin -->", f"<!-- figures of {name}: end -->"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in text:
        text += f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{markdown(section)}\n{end}{after}", encoding="utf-8")


def markdown(section: Section) -> str:
    verdicts = [("Reached" if target.met else "**Missed**", target) for target in section.targets]
    lines = [
        "| " + " | ".join(section.columns) + " |",
        "|" + "|".join(["---", *["---:"] * (len(section.columns) - 1)]) + "|",
        *("| " + " | ".join(row) + " |" for row in section.rows),
        "",
        *(f"- {verdict}: {target.text}; found {target.found}." for verdict, target in verdicts),
        *(f"- {note}" for note in section.notes),
        f"- Measured on {machine()}.",
    ]
    return "\n".join(lines)


def machine() -> str:
    """Date, hardware and versions, without the machine's name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({_processor()}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
