"""Any change stream, cut into any batches, landed late or twice: the same tables as one full refresh and a plain model.

hypothesis draws the streams, dbt runs on them: each batch lands as a file and is followed by a run.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dbt.lakes import Dbt
from tests.dbt.user_events import COLUMNS, NOON, UNREADABLE, Event, fold, land, row

# A few large examples in every run of the tests; set it to hundreds to search.
EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", "6"))
MODELS = ["user_changes", "incomplete_moves", "completed_user_changes", "users", "dim_users", "fct_user_changes"]
USERS = st.integers(1, 6)
OFTEN = ["insert"] * 8 + ["update"] * 20 + ["move"] * 8 + ["delete"] * 5 + ["no key"] * 2
LEFT_OUT = st.sets(st.sampled_from(["nome", "email", "observacoes"]))
BAD_COLUMNS = st.one_of(st.just(set()), st.sets(st.sampled_from(list(UNREADABLE)), max_size=3))
HOPS = st.sampled_from([timedelta(minutes=5), timedelta(hours=13), timedelta(minutes=-7)])
Landing = tuple[datetime, list[Event]]


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events of six users in transactions of any size, sensible or not; a snapshot begins an epoch.

    Some of their values cannot be read, and some of their keys: an event without a key is set aside.
    """
    events: list[Event] = []
    epoch, lsn, seq = 1, 10, 0
    for number in range(draw(st.integers(1, 80))):
        kind = draw(st.sampled_from([*OFTEN, "truncate", "snapshot"]))
        lsn, seq = draw(st.sampled_from([(lsn, seq + 1), (lsn + 10, 0)]))
        user = draw(USERS)
        note = draw(st.sampled_from([None, f"note {number}"]))
        after = row(user, nome=f"Name {number}", email=f"{number}@example.com", uf="SP", observacoes=note)
        for column in draw(BAD_COLUMNS):
            after[column] = draw(st.sampled_from(UNREADABLE[column]))
        if kind in ("update", "move"):
            left_out = draw(LEFT_OUT)
            after = {key: value for key, value in after.items() if key not in left_out}
        if kind == "insert":
            events.append(Event("c", lsn, seq, after=after, epoch=epoch))
        elif kind == "update":
            events.append(Event("u", lsn, seq, after=after, epoch=epoch))
        elif kind == "move":
            old = draw(USERS.filter(lambda other, user=user: other != user))
            events.append(Event("u", lsn, seq, {"id": str(old)}, after, epoch))
        elif kind == "no key":
            key = {"id": "seven"}
            bad = draw(st.sampled_from([(None, after | key), (key, after), ({"id": str(user)}, after | key)]))
            events.append(Event("u", lsn, seq, *bad, epoch))
        elif kind == "delete":
            events.append(Event("d", lsn, seq, {"id": str(user)}, epoch=epoch))
        elif kind == "truncate":
            events.append(Event("t", lsn, seq, epoch=epoch))
        else:
            epoch, lsn = epoch + 1, draw(st.sampled_from([5, lsn + 10]))
            events.append(Event("t", lsn, 0, epoch=epoch))
            for seq, read in enumerate(sorted(draw(st.sets(USERS))), 1):
                events.append(Event("r", lsn, seq, after=row(read, nome=f"Name {number}"), epoch=epoch))
    return events


@st.composite
def landings(draw: st.DrawFn) -> list[Landing]:
    """A stream's events spread over up to five batches, some of them in two, in the order in which they land.

    The clock that names the batches may run backwards, by less than the day that dbt looks back.
    """
    events = draw(streams())
    batches: list[list[Event]] = [[] for _ in range(draw(st.integers(1, 5)))]
    numbers = st.integers(0, len(batches) - 1)
    strays = st.sets(numbers, max_size=1) if draw(st.booleans()) else st.just(set())
    for place, event in enumerate(events):
        for number in {place * len(batches) // len(events)} | draw(strays):
            batches[number].append(event)
    at, landed = NOON, []
    for batch in draw(st.permutations(batches)):
        at += draw(HOPS)
        landed.append((at, batch))
    return [(at, batch) for at, batch in landed if batch]


def test_any_order_gives_the_same_tables(dbt: Dbt, lake: Path, query: Callable[..., list[tuple]]) -> None:
    dbt("run", "--select", "+path:models/curated/customer")

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],  # shrinking would take hours; an example is small enough to read
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(landings())
    def check(landed: list[Landing]) -> None:
        for path in lake.glob("raw/customer/usuarios/*/2*.parquet"):
            path.unlink()
        for number, (at, events) in enumerate(landed):
            land(lake, events, at)
            dbt("run", "--select", *MODELS, *([] if number else ["--full-refresh"]))

        history = fold([event for _, events in landed for event in events])
        assert versions_found(query) == [
            (
                *(*version.position, user_id, version.op, version.valid_from, version.valid_to),
                *(version.unreadable_columns, *version.values.values()),
            )
            for user_id, versions in sorted(history.versions.items())
            for version in versions
        ]
        assert users_found(query) == [
            (user_id, *position, is_deleted, deleted_at, unreadable, *values.values())
            for user_id, (position, is_deleted, deleted_at, values, unreadable) in sorted(history.users.items())
        ]

        built = tables_found(query)
        dbt("run", "--full-refresh", "--select", *MODELS)
        assert tables_found(query) == built

    check()


def users_found(query: Callable[..., list[tuple]]) -> list[tuple]:
    return query(
        f"""
        select
            user_id, epoch, commit_lsn, change_seq, is_deleted, deleted_at, unreadable_columns,
            {", ".join(COLUMNS.values())}
        from curated.users order by user_id
        """
    )


def versions_found(query: Callable[..., list[tuple]]) -> list[tuple]:
    return query(
        f"""
        select
            epoch, commit_lsn, change_seq, user_id, op, valid_from, valid_to, unreadable_columns,
            {", ".join(COLUMNS.values())}
        from curated.user_versions order by user_id, epoch, commit_lsn, change_seq
        """
    )


def tables_found(query: Callable[..., list[tuple]]) -> dict[str, list[tuple]]:
    """All rows of all tables, without what says which of several copies of an event was built."""
    return {
        name: query(f"select * exclude ({stamps}) from {schema}.{name} order by all")
        for schema, name, stamps in [
            ("curated", "user_changes", "batch_id, load_date, landed_at"),
            ("curated", "completed_user_changes", "batch_id, load_date, landed_at, row_version"),
            ("curated", "users", "batch_id, load_date, row_version"),
            ("refined", "dim_users", "batch_id, load_date, row_version"),
            ("refined", "fct_user_changes", "batch_id, load_date"),
        ]
    }
