"""What the marts show of groups: k-anonymity and l-diversity for any population, and the tests that prove them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.dbt.lakes import Dbt
from tests.dbt.user_events import NOON, Event, land, row

K, L = 5, 3
MARTS = ("mart_users_by_state", "mart_user_segments")
STATES, AGES = ("SP", "PE", "AC", "XX", None), (20, 30, 70, None)
INCOMES, STATUSES = (1000, 3000, 50_000, None), ("ativo", "bloqueado", "asleep", None)
BANDS = {20: "18-24", 30: "25-34", 70: "65+", None: "unknown"}
Query = Callable[..., list[tuple]]
Find = Callable[[Sequence[tuple]], list[tuple]]


class Person(NamedTuple):
    state: str | None
    age: int | None
    income: int | None
    status: str | None
    is_deleted: bool = False


PERSON = pa.schema(
    [
        ("state", pa.string()),
        ("age", pa.int32()),
        ("income", pa.int32()),
        ("status", pa.string()),
        ("is_deleted", pa.bool_()),
    ]
)
PEOPLE = st.builds(
    Person, *map(st.sampled_from, (STATES, AGES, INCOMES, STATUSES)), st.sampled_from([False] * 9 + [True])
)
# Single people and crowds of equal ones: sizes about k come often.
POPULATIONS = st.lists(st.tuples(PEOPLE, st.sampled_from([1, 1, 2, 4, 5, 9])), max_size=14).map(
    lambda groups: [person for person, size in groups for _ in range(size)]
)


class Marts:
    """The marts' and their tests' own SQL, as dbt compiles it, on any population."""

    def __init__(self, dbt: Dbt) -> None:
        nodes = [result.node for result in dbt("compile", "--select", *MARTS, "--quiet").results]
        self.models = {node.name: node for node in nodes if node.name in MARTS}
        self.tests = {
            node.name: node.compiled_code for node in nodes if "_anonymous" in node.name or "_diverse" in node.name
        }
        self.connection = duckdb.connect()
        self.connection.execute(
            "attach ':memory:' as warehouse; create schema warehouse.curated; create schema warehouse.refined"
        )
        self.connection.execute(
            "create table warehouse.curated.brazilian_states as select * from (values"
            " ('SP', 'São Paulo', 'Sudeste'), ('PE', 'Pernambuco', 'Nordeste'), ('AC', 'Acre', 'Norte'))"
            " as states (state_code, state_name, region)"
        )

    def build(self, people: Sequence[Person]) -> dict[str, list[dict[str, Any]]]:
        """The marts of these people: rows by mart."""
        given = pa.Table.from_pylist([person._asdict() for person in people], PERSON)
        self.connection.register("given", given)
        self.connection.execute(
            "create or replace table warehouse.curated.users as select state as state_code, status, is_deleted,"
            " cast(income as decimal(12, 2)) as monthly_income, timestamp '2026-03-01' as updated_at,"
            " cast(timestamp '2026-03-01' - to_years(age) as date) as birth_date from given"
        )
        built = {}
        for name, node in self.models.items():
            self.connection.execute(f"create or replace table {node.relation_name} as {node.compiled_code}")
            found = self.connection.execute(f"from {node.relation_name}")
            columns = [column[0] for column in found.description]
            built[name] = [dict(zip(columns, values, strict=True)) for values in found.fetchall()]
        return built

    def failures(self) -> dict[str, list[tuple]]:
        """What the tests of k and l find in the marts that were built last."""
        found = {name: self.connection.execute(sql).fetchall() for name, sql in self.tests.items()}
        assert len(found) == 3
        return {name: rows for name, rows in found.items() if rows}


@pytest.fixture
def marts(dbt: Dbt) -> Iterator[Marts]:
    marts = Marts(dbt)
    yield marts
    marts.connection.close()


def test_in_any_population_nobody_stands_out(marts: Marts) -> None:
    ana = Person("SP", 30, 1000, "ativo")

    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
    @example([])
    @example([ana] * 3)  # a tiny lake
    @example([ana] * 5)
    @example([ana] * 5 + [ana._replace(state="AC")])
    @given(POPULATIONS)
    def check(people: list[Person]) -> None:
        built = marts.build(people)
        assert marts.failures() == {}
        alive = [person for person in people if not person.is_deleted]
        shown = len(alive) if len(alive) >= K else 0
        check_states(built["mart_users_by_state"], alive, shown)
        check_segments(built["mart_user_segments"], alive, shown)
        # The marts of one population have the same states of the same people: neither tells what the other merged.
        in_segments: Counter[str] = Counter()
        for segment in built["mart_user_segments"]:
            in_segments[segment["state_code"]] += segment["users"]
        assert in_segments == {state["state_code"]: state["users"] for state in built["mart_users_by_state"]}

    check()


def check_states(states: list[dict[str, Any]], alive: list[Person], shown: int) -> None:
    """Each state has k people, as many as live there, and so have the counts that are withheld in it, together."""
    assert sum(state["users"] for state in states) == shown
    true = Counter(person.state or "unknown" for person in alive)
    for state in states:
        assert state["users"] >= K
        if state["state_code"] != "other":
            assert state["users"] == true[state["state_code"]]
        counts = [state[f"{name}_users"] for name in ("active", "inactive", "pending", "blocked")]
        told = [count for count in counts if count is not None]
        assert all(count == 0 or count >= K for count in told)
        rest = state["users"] - sum(told)
        assert rest == 0 or rest >= K
        assert rest or None not in counts


def check_segments(segments: list[dict[str, Any]], alive: list[Person], shown: int) -> None:
    """Each group has k people and l incomes or none, and tells the truth."""
    assert sum(segment["users"] for segment in segments) == shown
    groups: dict[tuple[str, str], dict[str | None, int]] = defaultdict(dict)
    for segment in segments:
        groups[segment["state_code"], segment["age_band"]][segment["income_band"]] = segment["users"]
    true = Counter((person.state or "unknown", BANDS[person.age]) for person in alive)
    for group, incomes in groups.items():
        assert sum(incomes.values()) >= K
        assert set(incomes) == {None} or (len(incomes) >= L and None not in incomes)
        if "other" not in group:
            assert sum(incomes.values()) == true[group]


def test_as_much_is_shown_as_may_be(marts: Marts) -> None:
    """Where every group is large and diverse, nothing is merged or withheld."""
    people = [Person(*kind) for kind in product(STATES, AGES, INCOMES, STATUSES) for _ in range(2)]
    built = marts.build(people)
    assert len(built["mart_user_segments"]) == len(STATES) * len(AGES) * len(INCOMES)
    assert {state["state_code"] for state in built["mart_users_by_state"]} == {"SP", "PE", "AC", "XX", "unknown"}
    assert all(state["blocked_users"] for state in built["mart_users_by_state"])


# ---------- the generic tests themselves

FOUR, FIVE = [("SP", "25-34")] * 4, [("SP", "25-34")] * 5
K_ANONYMOUS = {
    "nobody": ([], None),
    "five of a kind": (FIVE, None),
    "four of a kind": (FOUR, (1, 4)),
    "four beside five": (FIVE + [("SP", None)] * 4, (1, 4)),
    "two small groups": (FOUR + [("RJ", "25-34")] * 2 + [(None, None)] * 5, (2, 2)),
    "nulls are one value": ([(None, None)] * 5, None),
    "null is not another value": ([("SP", None)] * 3 + [("SP", "25-34")] * 2, (2, 2)),
    "one dimension alone would do": ([("SP", "25-34")] * 3 + [("SP", "35-44")] * 3, (2, 3)),
}
L_DIVERSE = {
    "nobody": ([], None),
    "three values": ([("SP", "a"), ("SP", "b"), ("SP", "c")], None),
    "two values, however many people": ([("SP", "a"), ("SP", "b")] * 9, (1, 2)),
    "null is a value": ([("SP", "a"), ("SP", "b"), ("SP", None)], None),
    "withheld from all": ([("SP", None)] * 9, None),
    "withheld from some": ([("SP", None)] * 8 + [("SP", "a")], (1, 2)),
    "a diverse group hides no uniform one": ([("SP", x) for x in "abc"] + [("RJ", "a")] * 5, (1, 1)),
}


@pytest.fixture
def finder(dbt: Dbt) -> Callable[[str], Find]:
    """`finder("test_...('seeded', ...)")` gives a function from rows of two texts, a and b, to what that test finds."""

    def compile_call(call: str) -> Find:
        sql = dbt("compile", "--inline", f"{{{{ {call} }}}}").results[0].node.compiled_code

        def find(rows: Sequence[tuple]) -> list[tuple]:
            with duckdb.connect() as connection:
                connection.execute("create table seeded (a varchar, b varchar)")
                if rows:
                    connection.executemany("insert into seeded values (?, ?)", rows)
                return connection.execute(sql).fetchall()

        return find

    return compile_call


def test_k_anonymous_finds_small_groups(finder: Callable[[str], Find]) -> None:
    find = finder("test_k_anonymous('seeded', quasi_identifiers=['a', 'b'])")
    for name, (rows, found) in K_ANONYMOUS.items():
        assert find(rows) == ([found] if found else []), name


def test_k_anonymous_counts_the_people_of_a_row(finder: Callable[[str], Find]) -> None:
    find = finder("test_k_anonymous('seeded', quasi_identifiers=['a'], k=3, people='cast(b as integer)')")
    assert find([("SP", "1"), ("SP", "2"), ("RJ", "3")]) == []
    assert find([("SP", "1"), ("SP", None), ("RJ", "3"), (None, None)]) == [(2, 0)]


def test_l_diverse_finds_uniform_groups(finder: Callable[[str], Find]) -> None:
    find = finder("test_l_diverse('seeded', quasi_identifiers=['a'], sensitive='b')")
    for name, (rows, found) in L_DIVERSE.items():
        assert find(rows) == ([found] if found else []), name


@pytest.mark.parametrize("call", ["test_k_anonymous('seeded', [])", "test_l_diverse('seeded', [], 'b')"])
def test_a_promise_without_quasi_identifiers_is_refused(
    finder: Callable[[str], Find], call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError):
        finder(call)
    assert "needs quasi_identifiers" in capsys.readouterr().out


def test_a_mart_that_breaks_its_promise_fails_the_build(
    dbt: Dbt, lake: Any, write: Callable[[str], None], query: Query
) -> None:
    incomes = ("100", "3000", "7000", None, None)
    people = [row(number, uf="SP", renda_mensal=income) for number, income in enumerate(incomes, start=1)]
    land(lake, [Event("c", 10, seq, after=person) for seq, person in enumerate(people)], NOON)
    dbt(
        "build",
        "--select",
        "+mart_user_segments",
        "--exclude-resource-types",
        "unit_test",
        "--indirect-selection",
        "cautious",
    )
    assert query("select users from refined.mart_user_segments order by all") == [(1,), (1,), (1,), (2,)]
    for name, violation in {
        "k_anonymous": "update refined.mart_user_segments set state_code = 'PE' where users = 2",
        "l_diverse": "update refined.mart_user_segments set income_band = 'unknown'",
    }.items():
        write(violation)
        with pytest.raises(AssertionError, match=name):
            dbt("test", "--select", f"mart_user_segments,test_name:{name}")
