"""A made-up past for a lake: days of changes and crawls as the loaders would have landed them.

A company has `people` people. Of 20 changes one is someone who signs up, one is the oldest one's leaving, and 18 update
someone. So the people of any moment are a window of ids that slides by, and a lake may begin on any day: with a
snapshot of that window, then the changes from there on. All follows from a change's number: same input, same rows.

Each past day is one file, as a daily compaction leaves it (its batches keep their names), and the last day is one file
for each five minutes. The changes are epoch 1, at LSNs far below those of any real server.
"""

import datetime as dt
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from loaders import raw
from sandbox import people
from sandbox.disney_api import DisneyApi, encode

BATCHES = 288  # of the last day, one for each five minutes
BATCH = dt.timedelta(days=1) / BATCHES
TRANSACTION = 3  # changes
MIX = 20  # one change of so many signs up, and one leaves
CATALOGUE = 10  # the characters change with one crawl of so many

# One row of public.usuarios as the loader lands it, a JSON object of PostgreSQL's texts. `version` decides about what
# updates change. One person in 150 has notes so long that PostgreSQL keeps them elsewhere: updates leave them out.
MACROS = r"""
create macro pick(choices, number) as choices[1 + (number % len(choices))::integer];
create macro digits(number, width) as lpad((number % (10 ** width)::ubigint)::varchar, width, '0');
create macro postgres_text(instant) as strftime(instant, '%Y-%m-%d %H:%M:%S.%f+00');
create macro person(id, version, instant, whole) as concat(
    '{"id":"', id,
    '","nome":"', pick(getvariable('first_names'), hash(id)), ' ', pick(getvariable('surnames'), hash(id, 1)),
    '","email":"made.up.', id, '.', version % 97, '@correio.example',
    '","cpf":"', digits(hash(id, 2), 9), digits(hash(id, 3), 2),
    '","telefone":', if(version % 12 = 0, 'null', concat('"(11) 9', digits(version, 8), '"')),
    ',"data_nascimento":"', date '1940-01-01' + (hash(id, 4) % 24000)::integer,
    '","cep":"', digits(hash(version), 8),
    '","cidade":"', pick(getvariable('cities'), hash(version)), '","uf":"', pick(getvariable('states'), hash(version)),
    '","renda_mensal":"', 900 + version % 20000, '.', digits(version, 2),
    '","status":"', pick(getvariable('statuses'), version), '"',
    case
        when id % 150 = 0 then if(whole, concat(',"observacoes":"', repeat(md5(id::varchar), 100), '"'), '')
        when version % 3 > 0 then ',"observacoes":null'
        else concat(',"observacoes":"Retornar depois das 18h.\nContrato ', version % 100000, '."')
    end,
    ',"criado_em":"', postgres_text(timestamp '2023-01-01' + to_minutes(id % 1500000)),
    '","atualizado_em":"', postgres_text(instant), '"}'
);
create macro origin(xid, lsn) as
    concat('{"db":"customer","schema":"public","table":"usuarios","xid":', xid, ',"lsn":', lsn, '}');
create macro batch_name(instant) as strftime(instant, '%Y%m%dT%H%M%S.%fZ');
"""

SNAPSHOT = f"""
    select
        1::integer as epoch,
        if(number = 0, 't', 'r') as op,
        $start::bigint // {TRANSACTION} as commit_lsn,
        number as change_seq,
        $midnight::timestamptz as committed_at,
        null::varchar as before,
        if(number > 0, person($start // {MIX} + number, hash(number), $midnight, true), null) as after,
        origin('null', $start // {TRANSACTION}) as source,
        batch_name($midnight) as batch_id,
        $midnight::timestamptz as landed_at
    from range($people + 1) as numbers (number)
"""

CHANGES = f"""
    with changes as (
        select
            number,
            number % {MIX} as kind,
            number // {MIX} as past,
            number // {TRANSACTION} as xid,
            $midnight + to_microseconds(86400000000 * (xid * {TRANSACTION} - $first) // $changes) as instant,
            time_bucket(interval 5 minutes, instant) + interval 299 seconds as landed,
            case kind
                when 0 then $people + past + 1
                when 1 then past + 1
                else past + 2 + (hash(number) % $people::ubigint)::bigint
            end as id
        from range($start, $stop) as numbers (number)
    )

    select
        1::integer as epoch,
        case kind when 0 then 'c' when 1 then 'd' else 'u' end as op,
        xid + 1 as commit_lsn,
        number % {TRANSACTION} as change_seq,
        instant::timestamptz as committed_at,
        if(kind = 1, concat('{{"id":"', id, '"}}'), null) as before,
        if(kind = 1, null, person(id, hash(number), instant, kind = 0)) as after,
        origin(xid, xid + 1) as source,
        batch_name(landed) as batch_id,
        landed::timestamptz as landed_at
    from changes
"""


class Past(NamedTuple):
    """So many days that ended yesterday, each with so many changes, at a company of so many people."""

    days: int
    changes: int  # a day; a multiple of 60, so that a day begins with a transaction and a whole mix
    people: int
    yesterday: dt.date

    def midnight(self, day: int) -> dt.datetime:
        """When a day begins; days are counted from 0."""
        return dt.datetime.combine(self.yesterday, dt.time(), dt.UTC) - dt.timedelta(days=self.days - 1 - day)

    @property
    def ids(self) -> range:
        """The people at the end."""
        gone = self.days * self.changes // MIX
        return range(gone + 1, gone + self.people + 1)


def write(past: Past, lake: Path, characters: list) -> None:
    """Write all days, but no snapshot."""
    write_changes(past, lake)
    write_crawls(past, lake, characters)


def write_changes(past: Past, lake: Path) -> None:
    """One file on each day, but on the last one each five minutes."""
    with engine() as connection:
        for day in track(range(past.days), "changes", console=Console(stderr=True)):
            first = day * past.changes
            cuts = [first, first + past.changes]
            if day == past.days - 1:
                transactions = past.changes // TRANSACTION
                cuts = [first + TRANSACTION * (transactions * batch // BATCHES) for batch in range(BATCHES + 1)]
            for start, stop in pairwise(cuts):
                bounds = (start // TRANSACTION + 1, stop // TRANSACTION + 1)
                values = {"first": first, "changes": past.changes, "start": start, "stop": stop}
                _copy(connection, CHANGES, past, day, lake, bounds, values)


def begin(past: Past, days: int, source: Path, lake: Path) -> None:
    """Make a lake that began so many days ago: a snapshot of then, and links to the files of the days since."""
    first_day = past.days - days
    since = f"load_date={past.midnight(first_day):%Y-%m-%d}"
    for file in source.rglob("load_date=*/*.parquet"):
        if file.parent.name >= since:
            link = lake / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, link)
    start = first_day * past.changes
    with engine() as connection:
        _copy(connection, SNAPSHOT, past, first_day, lake, (0, start // TRANSACTION + 1), {"start": start})


def write_crawls(past: Past, lake: Path, characters: list) -> None:
    """One crawl on each day, but on the last one each five minutes."""
    with DisneyApi(characters) as api:
        crawls = list(_crawl_times(past))
        for number, at in track(list(enumerate(crawls)), "crawls", console=Console(stderr=True)):
            if number % CATALOGUE == 0:
                api.change(seed=number)
                payloads = [encode(record) for record in api.records]
            size = len(payloads)
            batch_id = raw.new_batch_id(at)
            table = pa.table(
                {
                    "batch_id": [batch_id] * size,
                    "extracted_at": [at] * size,
                    "request_url": [f"{api.url}/character?page={row // 100 + 1}&pageSize=100" for row in range(size)],
                    "position": range(size),
                    "payload": payloads,
                },
                schema=raw.CHARACTERS.schema,
            )
            pq.write_table(table, _file(lake, raw.CHARACTERS.key(at, batch_id)), compression=raw.COMPRESSION)


def engine() -> duckdb.DuckDBPyConnection:
    """DuckDB with the macros above and the names that they choose from."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(MACROS)
    lists = {
        "first_names": people.FIRST_NAMES,
        "surnames": people.SURNAMES,
        "cities": [city for city, *_ in people.CITIES],
        "states": [state for _, state, *_ in people.CITIES],
        "statuses": people.STATUSES,
    }
    for name, values in lists.items():
        connection.execute(f"set variable {name} = $values", {"values": list(values)})
    return connection


def _copy(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    past: Past,
    day: int,
    lake: Path,
    bounds: tuple[int, int],
    values: dict[str, int],
) -> None:
    """Write a query's rows as the file of a range of LSNs."""
    midnight = past.midnight(day)
    path = _file(lake, raw.USER_CHANGES.key(midnight, f"1-{bounds[0]:016X}-{bounds[1]:016X}"))
    connection.execute(
        f"copy ({query}) to '{path}' (format parquet, compression {raw.COMPRESSION})",
        {"people": past.people, "midnight": midnight.replace(tzinfo=None)} | values,
    )


def _crawl_times(past: Past) -> Iterator[dt.datetime]:
    for day in range(past.days - 1):
        yield past.midnight(day) + dt.timedelta(hours=12)
    for batch in range(BATCHES):
        yield past.midnight(past.days - 1) + batch * BATCH


def _file(lake: Path, key: str) -> Path:
    path = lake / key
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
