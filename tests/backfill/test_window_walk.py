"""spokes.backfill.window_walk against a store in memory: every record is read, whatever their times are."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spokes.backfill.window_walk import PAGE_SIZE, RESULT_CAP, Query, ResultPage, Walk, Window, is_split

SINCE, SETTLED = 1_000, 2_000


@dataclass
class Store:
    """Records by id, with the time of the last change; searches as HubSpot's, with its cap and quirks."""

    changed_at: dict[int, int]
    page_size: int = PAGE_SIZE
    total_cap: int | None = None
    says_total: bool = True
    counts_page_only: bool = False  # its total is that of the page
    hidden: set[int] = field(default_factory=set)  # from the index, for now
    searches: int = 0

    def search(self, query: Query) -> ResultPage:
        self.searches += 1
        since, until = query.window.since, query.window.until
        matches = sorted(
            id_ for id_, at in self.changed_at.items()
            if since <= at and (until is None or at < until) and id_ > query.after_id and id_ not in self.hidden
        )  # fmt: skip
        total = len(matches) if self.total_cap is None else min(len(matches), self.total_cap)
        ids = matches[: 1 if query.is_count else self.page_size]
        if self.counts_page_only and not query.is_count:
            total = len(ids)
        return ResultPage(ids, total if self.says_total else None, has_next=len(ids) < len(matches))


def read_all(store: Store, walk: Walk, between: Callable[[int], None] = lambda _: None) -> tuple[Counter[int], Walk]:
    read: Counter[int] = Counter()
    steps = 0
    while (query := walk.next_query()) is not None:
        page = store.search(query)
        if not query.is_count and not is_split(query, page):
            read.update(page.ids)
        walk = walk.advance(query, page)
        steps += 1
        assert steps < 5_000
        between(steps)
    return read, walk


TIMES = st.integers(SINCE - 50, SETTLED + 50)
RECORDS = st.dictionaries(st.integers(1, 10_000), TIMES, max_size=600)


@given(RECORDS)
def test_each_record_is_read_exactly_once(changed_at: dict[int, int]) -> None:
    store = Store(changed_at)
    read, walk = read_all(store, Walk.start(SINCE, SETTLED))
    assert read == Counter(id_ for id_, at in changed_at.items() if at >= SINCE)
    assert (walk.is_finished, walk.unproven) == (True, 0)


@given(RECORDS, st.integers(1, PAGE_SIZE), st.booleans(), st.sampled_from([None, 10, 100]), st.booleans())
def test_short_pages_missing_capped_and_wrong_totals_lose_nothing(
    changed_at: dict[int, int], page_size: int, says_total: bool, total_cap: int | None, counts_page_only: bool
) -> None:
    store = Store(changed_at, page_size=page_size, says_total=says_total, counts_page_only=counts_page_only)
    if total_cap is not None and total_cap > page_size:
        store.total_cap = total_cap
    read, walk = read_all(store, Walk.start(SINCE, SETTLED))
    assert set(read) == {id_ for id_, at in changed_at.items() if at >= SINCE}
    assert walk.is_finished


@settings(max_examples=60)
@given(RECORDS, st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10_000)), max_size=30))
def test_records_that_change_during_the_walk_are_read(
    changed_at: dict[int, int], changes: list[tuple[int, int]]
) -> None:
    store = Store(dict(changed_at), page_size=7)
    wanted = {id_ for id_, at in changed_at.items() if at >= SINCE}

    def change(step: int) -> None:
        for at_step, id_ in changes:
            if at_step == step and id_ in store.changed_at:
                store.changed_at[id_] = SETTLED + 100 + step

    read, walk = read_all(store, Walk.start(SINCE, SETTLED), change)
    assert wanted <= set(read)
    assert walk.unproven == 0


@settings(max_examples=60)
@given(RECORDS, st.data())
def test_walk_continues_from_any_checkpoint(changed_at: dict[int, int], data: st.DataObject) -> None:
    store = Store(changed_at, page_size=10)
    walk, read = Walk.start(SINCE, SETTLED), Counter[int]()
    while (query := walk.next_query()) is not None:
        page = store.search(query)
        if data.draw(st.booleans(), label="killed before the checkpoint"):
            continue
        if not query.is_count:
            read.update(page.ids)
        walk = walk.advance(query, page)
    assert set(read) == {id_ for id_, at in changed_at.items() if at >= SINCE}


def test_fifteen_thousand_records_with_one_timestamp_take_no_more_pages_than_any_others() -> None:
    store = Store(dict.fromkeys(range(1, 15001), 1500) | dict.fromkeys(range(20000, 20500), 1600))
    read, walk = read_all(store, Walk.start(SINCE, SETTLED))
    assert (len(read), set(read.values()), walk.unproven) == (15_500, {1}, 0)
    assert store.searches <= 15_500 / PAGE_SIZE * 1.3


def test_window_beyond_the_cap_is_split_until_its_counts_are_exact() -> None:
    store = Store({id_: SINCE + id_ % 997 for id_ in range(1, 45_001)}, total_cap=RESULT_CAP + 1)
    read, walk = read_all(store, Walk.start(SINCE, SETTLED))
    assert (len(read), max(read.values()), walk.unproven) == (45_000, 1, 0)
    assert store.searches <= 45_000 / PAGE_SIZE * 1.3


@pytest.mark.parametrize("hidden_until", [3, 6])
def test_records_that_the_index_shows_late_are_found_by_the_count(hidden_until: int) -> None:
    store = Store(dict.fromkeys(range(1, 400), 1500), hidden={5, 100, 399})

    def index(step: int) -> None:
        if step == hidden_until:
            store.hidden.clear()

    read, walk = read_all(store, Walk.start(SINCE, SETTLED), index)
    assert set(read) == set(store.changed_at) if hidden_until == 3 else {5, 100, 399}.isdisjoint(read)
    assert walk.unproven == 0


def test_count_that_is_never_reached_is_reported() -> None:
    walk = Walk.start(SINCE, SETTLED)
    while (query := walk.next_query()) is not None:
        walk = walk.advance(
            query, ResultPage([1], 3) if query.is_count else ResultPage([1] if not query.after_id else [], 1)
        )
    assert walk.unproven == 2


def test_interval_that_begins_after_the_settled_time_is_one_open_window() -> None:
    assert Walk.start(SETTLED + 1, SETTLED).windows == (Window(SETTLED + 1),)


@pytest.mark.parametrize("is_split", [False, True])
def test_walk_knows_of_a_record_that_left_its_window_before_it_was_read(*, is_split: bool) -> None:
    count = 12_000 if is_split else 400
    for moving in (None, count - 1):
        store = Store({id_: SINCE + id_ * 900 // count for id_ in range(1, count)})
        walk = Walk.start(SINCE, SETTLED)
        has_moved = False
        while (query := walk.next_query()) is not None:
            has_moved = has_moved or (query.window.until is None and walk.has_moved_records)
            walk = walk.advance(query, store.search(query))
            if moving is not None:
                store.hidden.add(moving)  # it has changed, and the index shows it nowhere for now
        assert has_moved is (moving is not None)
