"""What data science begins with: read the feature set, and see what a first guess of one column by others is worth.

    python examples/read_features.py               on this machine, from DuckDB (after `make demo`)
    python examples/read_features.py --warehouse   in a notebook of SageMaker, from Redshift by the notebook's role

The guess is of who is inactive, by age and income bands: the rate of each pair of bands, drawn towards the rate of all
where few are known. It learns from four fifths of the users and is judged on the others, by log loss, beside the rate
of all alone.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

QUERY = "select user_key, age_band, income_band, status from refined.user_features"
LABEL = "inativo"
PRIOR = 20  # so many users of the overall rate stand behind each pair of bands


class User(NamedTuple):
    """A row of the feature set, as far as this needs it."""

    user_key: str
    age_band: str
    income_band: str
    status: str


def connect(warehouse: bool) -> Any:
    """A DB-API connection that reads refined: to Redshift by IAM (REDSHIFT_HOST), or to DuckDB's file."""
    if warehouse:
        import redshift_connector  # in a notebook: pip install redshift-connector

        host, database = os.environ["REDSHIFT_HOST"], os.environ.get("REDSHIFT_DATABASE", "lakehouse")
        port = int(os.environ.get("REDSHIFT_PORT", "5439"))
        connection = redshift_connector.connect(
            iam=True, ssl=True, is_serverless=True, host=host, port=port, database=database
        )
        # Else its first SELECT would begin a transaction, and dbt could not replace the table until that ends.
        connection.autocommit = True
        return connection
    from loaders import duckdb_file, settings
    from loaders.errors import LoaderError

    try:
        path = settings.from_environment().duckdb_path
        if not path or not Path(path).is_file():
            raise SystemExit(f"there is no lake at {path}: `make demo` makes one")
        return duckdb_file.connect(path, read_only=True)
    except LoaderError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def read(connection: Any) -> list[User]:
    cursor = connection.cursor()
    cursor.execute(QUERY)
    return [User(*row) for row in cursor.fetchall()]


def is_held_out(user: User) -> bool:
    """One user in five, always the same ones: a pseudonym is as good as a drawn number."""
    return int(user.user_key[:8], 16) % 5 == 0


def rates(users: Iterable[User]) -> tuple[float, dict[tuple[str, str], float]]:
    """The rate of the label among all users, and in each pair of bands."""
    people: Counter[tuple[str, str]] = Counter()
    labelled: Counter[tuple[str, str]] = Counter()
    for user in users:
        people[user.age_band, user.income_band] += 1
        labelled[user.age_band, user.income_band] += user.status == LABEL
    overall = (labelled.total() + 1) / (people.total() + 2)
    return overall, {pair: (labelled[pair] + PRIOR * overall) / (people[pair] + PRIOR) for pair in people}


def log_loss(guesses: Iterable[tuple[float, bool]]) -> float:
    """The mean of -ln of the probability that was given to what is true; less is better."""
    losses = [-math.log(rate if is_so else 1 - rate) for rate, is_so in guesses]
    return sum(losses) / len(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warehouse", action="store_true", help="read Redshift, not DuckDB")
    with connect(parser.parse_args().warehouse) as connection:
        users = read(connection)
    known, held_out = [user for user in users if not is_held_out(user)], list(filter(is_held_out, users))
    if not known or not held_out:
        raise SystemExit(
            f"refined.user_features has {len(users)} users: too few to learn from some and judge by others"
        )
    overall, by_bands = rates(known)
    alone = log_loss((overall, user.status == LABEL) for user in held_out)
    banded = log_loss(
        (by_bands.get((user.age_band, user.income_band), overall), user.status == LABEL) for user in held_out
    )
    print(f"{len(users):,} users, {len(held_out):,} of them held out; {overall:.1%} are {LABEL}")
    print(f"log loss: {alone:.4f} by the overall rate, {banded:.4f} by age and income bands")
    print("the bands help" if banded < alone * 0.99 else "the bands tell nothing")


if __name__ == "__main__":
    with suppress(ImportError):  # a notebook has no loaders
        import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)
    main()
