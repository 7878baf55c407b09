"""The command line: `python -m privacy [write|site]`; without a command the map, the verdict and the figures."""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loaders.errors import LoaderError
from privacy import site

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "dbt_project"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m privacy",
        description="Where personal data goes, whether any reaches refined unmasked, and how small its groups are.",
        epilog="Exits with 0, or with 1 when the verdict is bad.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("report", help="print the map, the verdict and the figures (also without a command)")
    commands.add_parser("write", help="write the generated files anew: column_privacy.sql and pii_map.md")
    command = commands.add_parser("site", help="add each column's class, mask and readers to generated docs")
    command.add_argument("target", type=Path, nargs="?", default=PROJECT / "target", help="default: %(default)s")
    options = parser.parse_args()
    try:
        if options.command == "site":
            site.annotate(options.target)
            return 0
        return write() if options.command == "write" else report()
    except FileNotFoundError as error:
        print(f"{error.filename} is not there: run `dbt docs generate` first", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except LoaderError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def write() -> int:
    from privacy import graph, pii_map, verdict

    read = graph.load()
    judged = verdict.judge(read)
    for name, text in pii_map.files(read, judged).items():
        path = PROJECT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))
    return 0


def report() -> int:
    """Print all there is to know. 1 when anything breaks the policy, else 0."""
    from privacy import disclosure, graph, groups, pii_map, verdict

    console = Console(soft_wrap=False)
    read = graph.load()
    judged = verdict.judge(read)
    for row in pii_map.rows(read, judged):
        print(f"{row.origin}: {row.pii}")
        print(f"    in the clear: {', '.join(row.in_clear) or 'nowhere else'}")
        print(f"    masked:       {', '.join(row.masked) or 'nowhere: it stays before the line'}")
    print()
    stale = pii_map.stale(PROJECT, read, judged)
    faults = [str(finding) for finding in judged.findings]
    faults += disclosure.faults(read, judged)
    faults += [f"{name} is out of date: python -m privacy write" for name in stale]

    path = groups.database()
    if path is None:
        console.print("k-anonymity: no lake yet: make demo")
    else:
        measured = groups.measure(read.manifest, path)
        figures = Table("table", "quasi-identifiers", "groups", "rule", "least", "wanted", title="k-anonymity")
        for found in measured:
            columns = ", ".join(found.columns)
            figures.add_row(
                found.table, columns, f"{found.groups:,}", found.rule, str(found.least or "-"), str(found.wanted)
            )
        console.print(figures if measured else "k-anonymity: no built table is under a test k_anonymous or l_diverse")
        small = [found for found in measured if not found.holds]
        faults += [f"{found.table}: a group has {found.least}, but {found.rule} is {found.wanted}" for found in small]
    for fault in faults:
        console.print(fault, style="red", markup=False, highlight=False)
    refined = [relation for relation in read.relations.values() if relation.layer == "refined"]
    proven = f"Nothing personal reaches the {len(refined)} tables of refined unmasked."
    console.print(f"{len(faults)} faults" if faults else proven)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
