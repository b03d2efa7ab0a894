"""spokes.backfill.search_ahead: the same pages as without it, several windows at a time."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spokes.backfill.crm_reader import SearchPage
from spokes.backfill.search_ahead import SearchAhead
from spokes.backfill.window_walk import Query, Walk, Window, is_split
from spokes.core.errors import CRMUnavailable
from tests.backfill.test_window_walk import RECORDS, SINCE, Store

WINDOWS = (Window(SINCE, 1_200), Window(1_200, 1_500), Window(1_500, 1_900), Window(1_900, 2_000), Window(2_000))


class SlowSearch:
    """A search that yields to other tasks before it answers; it counts how many are in flight."""

    def __init__(self, store: Store, *, fails_at: int = 0) -> None:
        self._store = store
        self._fails_at = fails_at
        self.in_flight = self.most_in_flight = self.started = 0

    async def __call__(self, query: Query) -> SearchPage:
        self.started += 1
        number = self.started
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if number == self._fails_at:
                raise CRMUnavailable
            return SearchPage(self._store.search(query), ())
        finally:
            self.in_flight -= 1


async def read_all(search: SlowSearch, walk: Walk) -> tuple[Counter[int], Walk]:
    read: Counter[int] = Counter()
    async with SearchAhead(search) as ahead:
        while (query := walk.next_query()) is not None:
            page, _ = await ahead.page(walk, query)
            if not query.is_count and not is_split(query, page):
                read.update(page.ids)
            walk = walk.advance(query, page)
    return read, walk


@settings(max_examples=60)
@given(RECORDS, st.integers(1, 50), st.booleans())
def test_each_record_is_read_exactly_once(changed_at: dict[int, int], page_size: int, says_total: bool) -> None:
    store = Store(changed_at, page_size=page_size, says_total=says_total)
    read, walk = asyncio.run(read_all(SlowSearch(store), Walk(WINDOWS)))
    assert read == Counter(id_ for id_, at in changed_at.items() if at >= SINCE)
    assert walk.is_finished


@settings(max_examples=30)
@given(RECORDS, st.integers(1, 10_000))
def test_walk_that_continues_inside_a_window_reads_the_rest(changed_at: dict[int, int], after_id: int) -> None:
    seen = sum(at < 1_200 and id_ <= after_id for id_, at in changed_at.items() if at >= SINCE)
    read, _ = asyncio.run(read_all(SlowSearch(Store(changed_at, page_size=10)), Walk(WINDOWS, after_id, seen)))
    rest = (id_ for id_, at in changed_at.items() if at >= SINCE and (at >= 1_200 or id_ > after_id))
    assert read == Counter(rest)


async def test_split_window_is_read_in_its_parts() -> None:
    search = SlowSearch(Store({id_: SINCE + id_ % 997 for id_ in range(1, 30_001)}))
    read, walk = await read_all(search, Walk.start(SINCE, 2_000))
    assert (len(read), max(read.values()), walk.unproven) == (30_000, 1, 0)


async def test_windows_are_searched_together_without_more_searches() -> None:
    changed_at = {id_: SINCE + id_ % 1_000 for id_ in range(1, 5_001)}
    search, alone = SlowSearch(Store(changed_at)), Store(changed_at)
    await read_all(search, Walk(WINDOWS))
    walk = Walk(WINDOWS)
    while (query := walk.next_query()) is not None:
        walk = walk.advance(query, alone.search(query))
    assert (search.most_in_flight, search.started) == (3, alone.searches)


@pytest.mark.parametrize("fails_at", [1, 2, 5])
async def test_failed_search_is_raised_and_ends_the_others(fails_at: int) -> None:
    search = SlowSearch(Store({id_: SINCE + id_ % 1_000 for id_ in range(1, 5_001)}), fails_at=fails_at)
    with pytest.raises(CRMUnavailable):
        await read_all(search, Walk(WINDOWS))
    assert search.in_flight == 0
