"""Tell a consistent snapshot of the list of characters from one that changed while it was read.

The API gives pages of an unsorted list, and neither a total nor a version. A record that comes or goes while pages are
read shifts all pages after it, so that one record is read twice or not at all, and all counts may still agree. So the
list is read twice, and is believed only if both readings hold the same records in the same order:

1. In pages, several at once. All must say the same number of pages, be full but for the last, and repeat no `_id`.
2. On one page, large enough for all. The API answers it from one state of its data, so equality proves that what the
   pages held is that state, whenever it was asked: it is asked beside the pages. It costs one request.

An API that bounds the size of a page is read by pages once more, after the first reading and from the last page to the
first. That is a double collect (Afek et al., "Atomic Snapshots of Shared Memory", 1993): a position that holds the same
in both readings held it in between, and "in between" is one moment that all positions share.
"""

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import Executor

from rich.console import Console
from rich.progress import Progress

from loaders.disney.client import Client, Page
from loaders.errors import TransientError

log = logging.getLogger(__name__)

CRAWLS = 3  # of a list that changes while it is read


class InconsistentError(Exception):
    """The pages of one reading cannot belong to one state of the list."""


def snapshot(client: Client, pool: Executor, page_size: int) -> list[Page]:
    """Read the list until two readings agree, CRAWLS times at most; TransientError when they never do."""
    problem = ""
    for attempt in range(CRAWLS):
        if attempt:
            log.warning("crawl %d of %d is no consistent snapshot: %s", attempt, CRAWLS, problem)
            client.postpone(client.backoff * 2**attempt, problem)
        try:
            pages, again = read_twice(client, pool, page_size)
            if _payloads(pages) == _payloads(again):
                return pages
            problem = "the list changed between two readings"
        except InconsistentError as error:
            problem = str(error)
    raise TransientError(f"no consistent snapshot in {CRAWLS} crawls, nothing was landed: {problem}")


def read_twice(client: Client, pool: Executor, page_size: int) -> tuple[list[Page], list[Page]]:
    """The two readings; raises InconsistentError when already one of them contradicts itself."""
    first = client.page(1, page_size)
    everything = first.total_pages * page_size + 1
    whole = pool.submit(client.page, 1, everything)
    pages = read_all(client, pool, first, page_size)
    again = [whole.result()]
    if again[0].total_pages > 1:
        again = read_all(client, pool, client.page(1, everything), everything, backwards=True)
    return pages, again


def read_all(client: Client, pool: Executor, first: Page, page_size: int, *, backwards: bool = False) -> list[Page]:
    """All pages in the order of the list, the first of which is at hand."""
    order = -1 if backwards else 1
    numbers = range(2, first.total_pages + 1)[::order]
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        answers = pool.map(lambda number: client.page(number, page_size), numbers)
        others = list(progress.track(answers, total=len(numbers), description="pages of characters"))
    pages = [first, *others[::order]]
    check(pages)
    return pages


def check(pages: Sequence[Page]) -> None:
    """Raise InconsistentError unless these can be all pages of one list."""
    lengths = [len(page.payloads) for page in pages]
    ids = [identity for page in pages for identity in page.ids]
    if not any(lengths):
        raise InconsistentError("the list is empty, which would mark every character as removed: not believed")
    if any(page.total_pages != len(pages) for page in pages):
        raise InconsistentError("the number of pages changed")
    if any(length != lengths[0] for length in lengths[:-1]) or not 0 < lengths[-1] <= lengths[0]:
        raise InconsistentError("a page is not full, or the last one is empty")
    if len(set(ids)) < len(ids):
        raise InconsistentError(f"{len(ids) - len(set(ids))} records came twice")


def _payloads(pages: Sequence[Page]) -> list[str]:
    return [payload for page in pages for payload in page.payloads]
