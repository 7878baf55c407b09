"""Made-up characters with the statistics of the Disney API's catalogue, and nothing of its text.

The figures below were measured on the 7,438 characters of a capture of November 2023: which kinds of work occur
together, how many of each, how often names repeat, ids are missing, values hold commas or accents.
"""

from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

Character = dict[str, Any]

# How many records have works of these kinds (initials of KINDS), and of no other.
COMBINATIONS = {
    "t": 3179, "f": 1733, "ft": 493, "": 311, "fv": 265, "ftvp": 255, "ftv": 202, "tv": 145,
    "p": 140, "v": 94, "s": 90, "fvp": 88, "fstvp": 86, "ftp": 58, "fp": 58, "fst": 37,
}  # fmt: skip


class WorkKind(NamedTuple):
    """How one array looks: distinct titles, and a Pareto tail of values per record cut at `longest`."""

    titles: int
    tail: float
    longest: int


KINDS = {
    "films": WorkKind(579, 1.7, 25),
    "shortFilms": WorkKind(312, 1.6, 12),
    "tvShows": WorkKind(307, 2.6, 26),
    "videoGames": WorkKind(381, 0.9, 26),
    "parkAttractions": WorkKind(367, 0.9, 29),
}

SHARED_NAME = 0.02  # of the records take the name of an earlier one
COMMA = 0.012  # of the titles, and half of that of the names
ACCENT = 0.007  # of the titles, and half of that of the names
NO_IMAGE = 0.0125  # of the records have no `imageUrl`
ID_GAP = 0.011  # of the ids are missing
ALLIES = 30  # of the one character that has any

ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "gl", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
ENDINGS = ("", "", "", "n", "l", "r", "x", "th")
ACCENTS = str.maketrans("aeiou", "áéíôü")
THINGS = ("Lantern", "Harbour", "Clockmaker", "Orchard", "Voyage", "Winter", "Carousel", "Lighthouse", "Parade")


def characters(count: int = 9800, seed: int = 7) -> list[Character]:
    """`count` records in the order in which the API lists them, which is not that of `_id`."""
    rng = Random(seed)
    titles = {kind: _titles(rng, KINDS[kind].titles) for kind in KINDS}
    names: list[str] = []
    records = []
    identity = 5
    for _ in range(count):
        identity += 1 + (rng.random() < ID_GAP)
        names.append(rng.choice(names) if names and rng.random() < SHARED_NAME else _name(rng))
        records.append(_record(rng, identity, names[-1], titles))
    if records:
        rng.choice(records)["allies"] = [_name(rng) for _ in range(ALLIES)]
    return sorted(records, key=lambda record: record["_id"] + rng.gauss(0, 30))


def _record(rng: Random, identity: int, name: str, titles: dict[str, list[str]]) -> Character:
    (combination,) = rng.choices(list(COMBINATIONS), COMBINATIONS.values())
    record: Character = {"_id": identity}
    for kind in KINDS:
        record[kind] = _works(rng, KINDS[kind], titles[kind]) if kind[0] in combination else []
    record |= {"allies": [], "enemies": [], "name": name}
    if rng.random() >= NO_IMAGE:
        picture = f"{rng.getrandbits(64):016x}"
        record["imageUrl"] = f"https://images.example/made-up-characters/{picture[:2]}/{picture}-{identity}.png"
    record["url"] = f"https://api.disneyapi.dev/character/{identity}"
    return record


def _works(rng: Random, kind: WorkKind, titles: list[str]) -> list[str]:
    """Distinct titles of one kind; the first ones of the list are the famous ones."""
    length = min(int(rng.paretovariate(kind.tail)), kind.longest)
    return list(dict.fromkeys(rng.choices(titles, cum_weights=_popularity(len(titles)), k=length)))


@cache
def _popularity(count: int) -> list[float]:
    return list(accumulate((rank + 5) ** -0.9 for rank in range(count)))


def _titles(rng: Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        title = f"The {rng.choice(THINGS)} of {_name(rng)}"
        if rng.random() < COMMA:
            title += f", or {_word(rng)}"
        found[_accented(rng, title, ACCENT)] = None
    return list(found)


def _name(rng: Random) -> str:
    name = " ".join(_word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    if rng.random() < COMMA / 2:
        name += f", {_word(rng)}"
    return _accented(rng, name, ACCENT / 2)


def _word(rng: Random) -> str:
    syllables = (rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((1, 2, 2, 3))))
    return ("".join(syllables) + rng.choice(ENDINGS)).capitalize()


def _accented(rng: Random, text: str, share: float) -> str:
    return text.translate(ACCENTS) if rng.random() < share else text
