"""Erasure (LGPD, article 18): a person's values leave raw, and dbt's next build makes the tables forget him.

The request is written down first, so that from then on the users loader lands nothing of him but skeletons; a landing
that had begun before is waited for. Then each file of raw that holds him is put anew in its own place (loaders.swap).
Last an event that says he was erased lands: it reaches the tables as any change does, and makes dbt take his values
out of what it only appends to. Killed anywhere, the same call again goes on.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loaders import raw, swap, warehouse
from loaders.batches import BatchClock
from loaders.environment import DEFAULTS
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.ledger import Ledger
from loaders.raw import USER_CHANGES
from loaders.settings import Settings
from loaders.users import events, scrub
from loaders.users.state import NAME

log = logging.getLogger(__name__)

LANDING_SECONDS = 120.0  # how long to wait for a landing that had begun before; the lease of a killed one is shorter
POLL_SECONDS = 0.2
DOCUMENTS = {"before": False, "after": True}  # whether what is scrubbed says so
TEXTS = [*DOCUMENTS, "source"]
LEAK = "remove them, later calls have no value to look for"
LEAST_VALUE = 8  # characters: shorter ones stand everywhere
VALUES = 5_000  # as many are searched for
TABLE = f"raw/{USER_CHANGES.name}"
DBT_FOLDERS = {"target": "DBT_TARGET_PATH", "logs": "DBT_LOG_PATH"}  # of the project, unless dbt is told otherwise


@dataclass(frozen=True)
class Place:
    """One place that was searched: how much was found there before and after. None: it could not be searched."""

    place: str
    unit: str
    before: int | None
    after: int | None
    note: str = ""


@dataclass(frozen=True)
class Erasure:
    """What one run did; `is_raw_clean` is its promise, `is_finished` also covers the tables that it can reach."""

    requests: int
    new_requests: int
    not_in_raw: int  # of the ids
    moved_keys: int  # ids of others that are named in his events
    files: int
    events: int
    is_raw_clean: bool
    is_finished: bool
    places: list[Place] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 0 if self.is_raw_clean and not self.problems else 1


@dataclass
class Found:
    """What a reading of raw has found."""

    files: dict[str, int] = field(default_factory=dict)  # those with values: how many events
    ids: set[str] = field(default_factory=set)  # of those asked for, whom raw knows
    ids_with_values: set[str] = field(default_factory=set)
    moved_keys: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    position: tuple[int, int] = (0, 0)  # the greatest epoch, and the greatest commit_lsn in it
    problems: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(self.files.values())


Wanted = Callable[[pa.Array], pa.Array]  # of ids as text, those of people to be erased


def parse_ids(user_ids: Sequence[str], file: Path | None) -> list[str]:
    """The ids of the command line and of a file with one a line, in decimal. Raises OperatorError."""
    texts = list(user_ids)
    if file:
        try:
            texts += [line.strip() for line in file.read_text().splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"cannot read {file}: give a text file with one user id a line") from error
        if not texts:
            raise OperatorError(f"{file} names nobody: give one user id a line")
    for number, text in enumerate(texts, 1):
        if not re.fullmatch("-?[0-9]{1,19}", text, re.ASCII) or int(text) not in scrub.BIGINT:
            raise OperatorError(f"number {number} of the ids is no whole number of a bigint: nothing was done")
    return list(dict.fromkeys(str(int(text)) for text in texts))


def erase(settings: Settings, user_ids: Sequence[str], *, check: bool = False, now: datetime | None = None) -> Erasure:
    """Erase these people, or with no id all of the ledger again, in raw; with `check` only look, which changes nothing.

    Raises TransientError when a compaction or another erasure is under way or a landing does not end: the request then
    is recorded all the same. Raises OperatorError for a ledger that is not the one.
    """
    now = now or datetime.now(UTC)
    lake = open_lake(settings.lake_uri, kms_key_id=settings.lake_kms_key_id)
    ledger = Ledger.open(settings, lake)
    wanted = _among_ids(user_ids) if user_ids else _among_ledger(ledger)
    if check:
        before = after = _search(lake, wanted)
        new, problems = 0, list(before.problems)
        if user_ids and any(user_id not in ledger for user_id in user_ids):
            problems.append("not all of the ids are in the ledger: run the same without --check")
    else:
        new = ledger.record(user_ids, now)
        with lake.lock(swap.NAME):
            swap.settle(lake)
            former, problems = _wait_for_landings(lake)
            before = _search(lake, wanted)
            ledger.reopen(before.ids_with_values)  # so that a run which is killed from here on is done again
            for key in _with_progress(list(before.files), "rewriting"):
                swap.put_in_place_of(lake, [key], key, lambda path, key=key: _rewrite(lake, key, wanted, path))
            people = list(user_ids) or sorted(before.ids)
            if told := ledger.lacking("raw_clean_at", people):
                _tell(lake, told, before.position, now)
            if before.files and not problems:  # the versions that were just replaced
                former += _forget(lake, problems)
            # The others were found clean, and what has landed meanwhile knows of the request.
            after = _search(lake, wanted, before.files)
            problems += before.problems + after.problems
            if not after.files and not problems:
                ledger.note("raw_clean_at", people, now)
    former = None if check else former
    return _report(settings, ledger, user_ids, before, after, new, problems, check=check, now=now, former=former)


def _wait_for_landings(lake: Lake) -> tuple[int, list[str]]:
    """Return when no landing is left that may not know of the request; with what the store had kept of former files."""
    deadline = time.monotonic() + LANDING_SECONDS
    problems: list[str] = []
    while True:
        try:
            with lake.lock(NAME):
                return _forget(lake, problems), problems
        except TransientError as error:
            if time.monotonic() > deadline:
                raise TransientError(f"the request is recorded, but nothing was erased as yet: {error}") from error
            time.sleep(POLL_SECONDS)


def _forget(lake: Lake, problems: list[str]) -> int:
    try:
        return lake.forget(TABLE)
    except OperatorError as error:
        problems.append(f"former versions of raw's files may still hold values: {error}")
        return 0


# ---------- finding


def _among_ids(user_ids: Sequence[str]) -> Wanted:
    named = pa.array(user_ids, pa.string())
    return lambda found: pc.filter(found, pc.is_in(found, named))


def _among_ledger(ledger: Ledger) -> Wanted:
    known: dict[str, bool] = {}

    def among(found: pa.Array) -> pa.Array:
        texts = found.to_pylist()
        known.update((text, text in ledger) for text in texts if text not in known)
        return pa.array([text for text in texts if known[text]], pa.string())

    return among


def _search(lake: Lake, wanted: Wanted, keys: Iterable[str] | None = None) -> Found:
    """Read the documents of all of raw's user changes, or of some files, once."""
    found = Found()
    keys = lake.keys(TABLE) if keys is None else keys
    for key in _with_progress([key for key in sorted(keys) if key.endswith(".parquet")], "searching"):
        try:
            with lake.local_file(key) as path, pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    _search_rows(file.read_row_group(number, ["epoch", "commit_lsn", *DOCUMENTS]), key, wanted, found)
        except FileNotFoundError:
            continue  # under --check a compaction may have taken it away
        except (pa.ArrowException, OSError, KeyError) as error:
            found.problems.append(f"cannot read {lake.uri}/{key} ({type(error).__name__}): who is in it is not known")
    return found


def _search_rows(rows: pa.Table, key: str, wanted: Wanted, found: Found) -> None:
    if rows.num_rows == 0:
        return
    epoch = pc.max(rows["epoch"]).as_py()
    lsn = pc.max(pc.filter(rows["commit_lsn"], pc.equal(rows["epoch"], epoch))).as_py()
    found.position = max(found.position, (epoch, lsn))
    mask, ids = _hits(rows, wanted)
    found.ids |= ids
    if not ids:
        return
    for row in rows.filter(mask).select(list(DOCUMENTS)).to_pylist():
        named = set()
        dirty = False
        for name, mark in DOCUMENTS.items():
            document = row[name] and row[name].encode()
            named |= scrub.ids(document)
            if scrub.scrubbed(document, mark=mark) != document:
                dirty = True
                if len(found.values) < VALUES:
                    found.values |= {text for text in scrub.telling_values(document) if len(text) >= LEAST_VALUE}
        found.moved_keys |= named - ids
        if dirty:
            found.files[key] = found.files.get(key, 0) + 1
            found.ids_with_values |= named & ids


def _hits(rows: pa.Table, wanted: Wanted) -> tuple[pa.Array, set[str]]:
    """Which rows name a wanted id in either document, and which ids those are."""
    mask = pa.repeat(False, rows.num_rows)
    ids: set[str] = set()
    for name in DOCUMENTS:
        documents = rows[name].combine_chunks()
        if documents.null_count == len(documents):
            continue
        named = pc.struct_field(pc.extract_regex(documents, scrub.BEGINNING), "id")
        here = wanted(pc.unique(named.drop_null()))
        if len(here):
            ids |= set(here.to_pylist())
            mask = pc.or_(mask, pc.is_in(named, here))
        odd = pc.indices_nonzero(pc.and_(pc.is_valid(documents), pc.is_null(named)))
        if len(odd):
            flags = [False] * rows.num_rows
            for place in odd.to_pylist():
                candidates = pa.array(sorted(scrub.ids(documents[place].as_py().encode())), pa.string())
                if len(candidates) and (his := wanted(candidates).to_pylist()):
                    ids |= set(his)
                    flags[place] = True
            mask = pc.or_(mask, pa.array(flags))
    return mask, ids


# ---------- writing


def _rewrite(lake: Lake, key: str, wanted: Wanted, path: Path) -> int:
    """Write the file's rows, those of the people wanted without values; by the settings that the file shows."""
    rows = 0
    with (
        lake.local_file(key) as old,
        pq.ParquetFile(old) as file,
        pq.ParquetWriter(path, file.schema_arrow, **_settings_of(file.metadata)) as writer,
    ):
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            writer.write_table(_without_values(group, wanted), row_group_size=max(group.num_rows, 1))
            rows += group.num_rows
    return rows


def _settings_of(metadata: pq.FileMetaData) -> dict:
    """How the file's first row group was written; but no statistics of texts, which would hold values."""
    if metadata.num_row_groups == 0:
        return {"compression": raw.COMPRESSION}
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        "compression": {
            column.path_in_schema: column.compression.lower().replace("uncompressed", "none") for column in columns
        },
        "use_dictionary": [column.path_in_schema for column in columns if column.has_dictionary_page],
        "write_statistics": [
            column.path_in_schema for column in columns if column.is_stats_set and column.path_in_schema not in TEXTS
        ],
    }


def _without_values(rows: pa.Table, wanted: Wanted) -> pa.Table:
    mask, ids = _hits(rows, wanted)
    if not ids:
        return rows
    for name, mark in DOCUMENTS.items():
        place = rows.schema.get_field_index(name)
        documents = rows[name].combine_chunks()
        new = [
            text and scrub.scrubbed(text.encode(), mark=mark).decode()
            for text in pc.filter(documents, mask).to_pylist()
        ]
        documents = pc.replace_with_mask(documents, mask, pa.array(new, documents.type))
        rows = rows.set_column(place, rows.schema.field(place), documents)
    return rows


def _tell(lake: Lake, user_ids: Iterable[str], position: tuple[int, int], now: datetime) -> None:
    """Land, as the last thing that happened to each of them, that he was erased.

    Its name is none of the loader's, so that it stays for ever: a table that was not built for years learns of it.
    """
    epoch, lsn = position
    batch_time = BatchClock(lake, USER_CHANGES).take(now)
    batch_id = raw.new_batch_id(batch_time)
    moment = events.microseconds(batch_time)
    changes = [  # a sequence that no transaction reaches, nor a former erasure
        events.Event("u", lsn, moment + number, moment, None, b'{"erased":true,"id":"%s"}' % user_id.encode(), b"{}")
        for number, user_id in enumerate(user_ids)
    ]
    with lake.new_file(USER_CHANGES.key(batch_time, f"erased-{batch_id}")) as path:
        events.write(path, changes, epoch=epoch, batch_id=batch_id, landed_at=batch_time)


# ---------- the report


def _report(
    settings: Settings,
    ledger: Ledger,
    user_ids: Sequence[str],
    before: Found,
    after: Found,
    new: int,
    problems: list[str],
    *,
    check: bool,
    now: datetime,
    former: int | None,
) -> Erasure:
    """Search all other places, finish what can be finished, and say it all on stderr in a table."""
    people = list(user_ids) or sorted(before.ids)
    places = [
        Place("raw: events with values", "events", before.events, after.events),
        Place("raw: files with values", "files", len(before.files), len(after.files)),
    ]
    if former is not None:
        places.append(Place("raw: former versions, unfinished files", "objects", former, 0 if not problems else None))
    tables = warehouse.search(settings, people)
    places += [Place(f"{name}", "rows", rows, rows, "" if rows == 0 else note) for name, rows, note in tables]
    is_built = bool(tables) and all(rows == 0 for _, rows, _ in tables)
    is_clean = not after.files and not problems
    if is_built and is_clean and not check and ledger.lacking("finished_at", people):
        warehouse.rewrite(settings)
        places.append(Place("DuckDB file: free blocks", "files", 1, 0, "written anew"))
        ledger.note("finished_at", people, now)
    places += [_texts(name, path, before.values) for name, path in _text_places(settings)]
    places.append(Place("vault: requests in the ledger", "requests", len(ledger) - new, len(ledger)))
    done = Erasure(
        requests=len(people),
        new_requests=new,
        not_in_raw=len(set(user_ids) - before.ids),
        moved_keys=len(before.moved_keys),
        files=0 if check else len(before.files),
        events=0 if check else before.events,
        is_raw_clean=is_clean,
        is_finished=is_clean and is_built and not ledger.lacking("finished_at", (i for i in people if i in ledger)),
        places=places,
        problems=problems,
    )
    _print(done)
    return done


def _text_places(settings: Settings) -> list[tuple[str, Path]]:
    project = Path(os.environ.get("DBT_PROJECT_DIR", DEFAULTS["DBT_PROJECT_DIR"]))
    found = [(f"dbt's {name}", project / os.environ.get(variable, name)) for name, variable in DBT_FOLDERS.items()]
    if "://" not in settings.docs_uri:
        found.append(("docs site", Path(settings.docs_uri)))
    return [(name, path) for name, path in found if path.is_dir()]


def _texts(name: str, path: Path, values: set[str]) -> Place:
    """How many files below hold one of the values that raw had; without such a value there is nothing to look for."""
    if not values:
        return Place(name, "files", None, None, "no value at hand to look for: raw is clean")
    pattern = re.compile(b"|".join(re.escape(value.encode()) for value in sorted(values)))
    count = sum(1 for file in path.rglob("*") if file.is_file() and pattern.search(file.read_bytes()))
    return Place(name, "files", count, count, LEAK if count else "")


def _print(done: Erasure) -> None:
    shown = Table("place", "unit", "before", "after", "note", title="Erasure")
    for place in done.places:
        counts = ("?" if count is None else f"{count:,}" for count in (place.before, place.after))
        shown.add_row(place.place, place.unit, *counts, place.note)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    console.print(shown)
    for problem in done.problems:
        log.error("%s", problem)
    for place in done.places:
        if place.note == LEAK:
            log.error("%s: %d files hold values that were taken out of raw: %s", place.place, place.after, LEAK)
    if done.not_in_raw:
        log.warning(
            "%d of the ids are not in raw: the requests hold all the same, for what may still come", done.not_in_raw
        )
    if done.moved_keys:
        log.warning(
            "%d other ids stand in events that moved a row from or to his: where they are the same person's, erase "
            "them too (curated.user_changes: user_id, previous_user_id)",
            done.moved_keys,
        )
    if done.is_raw_clean and not done.is_finished:
        log.info("raw is clean. `dbt build` makes the tables forget, then the same call again finishes and says so")


def _with_progress(keys: list[str], what: str) -> Iterator[str]:
    return iter(track(keys, what, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True))
