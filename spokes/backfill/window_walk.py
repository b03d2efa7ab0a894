"""Which search to send next, so that every record that changed since a moment is read. Pure.

HubSpot returns at most 10,000 results of a query, in pages of 200, and its index lags behind. So the walk

- never pages by offset: each search asks for higher ids than the last one read, inside one window of the time of the
  last change. A record that changes during the walk leaves its window without shifting the others, and 15,000
  records with one timestamp are 75 pages like any other;
- splits a window that holds more than the cap, so that its count stays exact, but not without end: many records may
  have one timestamp, and their pages need no count;
- leaves the last window open: a record that changes during the walk moves there, and the last window is read last,
  after a wait if the closed ones held fewer records than their first count (`has_moved_records`);
- compares, at the end, the count of each closed window with what it read. A greater count means that the index was
  late, and the window is read again.

The state is plain data. It is the checkpoint: a walk that continues from it reads no admitted page again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

RESULT_CAP: Final = 10_000  # results of one query
PAGE_SIZE: Final = 200
_FILL: Final = 0.7  # of the cap, that a part of a split window is meant to hold
_MAX_SPLITS: Final = 6  # of one window and its parts
_MAX_ROUNDS: Final = 4  # in which one window is read


class Window(NamedTuple):
    """Records last changed at `since` <= t < `until` (epoch ms); an open one has no `until`."""

    since: int
    until: int | None = None
    rounds: int = 0  # how often it was read before
    splits: int = 0  # how often windows were split to make this one


class Counted(NamedTuple):
    """A window that was read, and how many records it held then."""

    window: Window
    seen: int


class Query(NamedTuple):
    """The next search: records of a window with an id above `after_id`, in the order of ids.

    With `is_count` only the total is of interest.
    """

    window: Window
    after_id: int = 0
    is_count: bool = False


class ResultPage(NamedTuple):
    """What a search returned: the ids on the page, how many records match, and whether it named a next page.

    `total` is None if HubSpot did not say.
    """

    ids: Sequence[int]
    total: int | None
    has_next: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """The state of a walk.

    Attributes:
        windows: still to be read; the first is being read.
        after_id: the highest id that was read in the first window.
        seen: how many records were read in it.
        counted: windows that were read and are not proven yet.
        unproven: records that the counts show and the walk did not find, after all rounds.
        owed: records that the first count showed in the closed windows, less those that were read; None before it.
    """

    windows: tuple[Window, ...]
    after_id: int = 0
    seen: int = 0
    counted: tuple[Counted, ...] = ()
    unproven: int = 0
    owed: int | None = None

    @classmethod
    def start(cls, since: int, settled_until: int) -> "Walk":
        """Return a walk over everything that changed from `since` on.

        Args:
            since: epoch ms.
            settled_until: the index shows every change before this time (epoch ms).
        """
        closed = (Window(since, settled_until),) if since < settled_until else ()
        return cls((*closed, Window(max(since, settled_until))))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to read or to count."""
        return not self.windows and not self.counted

    @property
    def has_moved_records(self) -> bool:
        """Whether records left the closed windows before they were read there: they have changed since.

        The index may show such a record nowhere for some time, so the open window has to be read after that time.
        """
        return self.owed is not None and self.owed > 0

    def next_query(self) -> Query | None:
        """Return the next search, None if the walk is finished."""
        if self.windows:
            return Query(self.windows[0], self.after_id)
        if self.counted:
            return Query(self.counted[0].window, is_count=True)
        return None

    def advance(self, query: Query, page: ResultPage) -> "Walk":
        """Return the walk after the response to `query`, which `next_query` returned."""
        if query.is_count:
            return self._compare(page.total)
        window, owed = query.window, self.owed
        if owed is None and window.until is not None and query.after_id == 0:
            owed = page.total
        if query.after_id == 0 and len(parts := _split(window, page.total)) > 1:
            return replace(self, windows=(*parts, *self.windows[1:]), owed=owed)
        new_ids = {object_id for object_id in page.ids if object_id > self.after_id}
        seen = self.seen + len(new_ids)
        if new_ids and (page.total is None or page.total > len(new_ids) or page.has_next):
            return replace(self, after_id=max(new_ids), seen=seen, owed=owed)
        # A record in the open window may be one that an earlier window has counted, so its count proves nothing.
        if window.until is None:
            return replace(self, windows=self.windows[1:], after_id=0, seen=0)
        counted = _with_counted(self.counted, Counted(window, seen))
        owed = None if owed is None else owed - seen
        return replace(self, windows=self.windows[1:], after_id=0, seen=0, counted=counted, owed=owed)

    def _compare(self, total: int | None) -> "Walk":
        (window, seen), rest = self.counted[0], self.counted[1:]
        if total is None or total <= seen:
            return replace(self, counted=rest)
        if window.rounds + 1 >= _MAX_ROUNDS:
            return replace(self, counted=rest, unproven=self.unproven + total - seen)
        return replace(self, counted=rest, windows=(window._replace(rounds=window.rounds + 1),))


def is_split(query: Query, page: ResultPage) -> bool:
    """Return whether `advance` splits the window instead of reading the page, whose records come again then."""
    return not query.is_count and query.after_id == 0 and len(_split(query.window, page.total)) > 1


def _with_counted(counted: tuple[Counted, ...], latest: Counted) -> tuple[Counted, ...]:
    """Return the counted windows with one more, joined to the last if one query counts both."""
    if counted:
        (window, seen), (following, following_seen) = counted[-1], latest
        is_adjacent = window.until == following.since and window.rounds == following.rounds
        if is_adjacent and seen + following_seen < RESULT_CAP:
            joined = Counted(window._replace(until=following.until), seen + following_seen)
            return (*counted[:-1], joined)
    return (*counted, latest)


def _split(window: Window, total: int | None) -> list[Window]:
    """Return the parts of a window that holds too many records; itself if it need not or cannot be split."""
    if total is None or total < RESULT_CAP or window.until is None or window.splits >= _MAX_SPLITS:
        return [window]
    length = window.until - window.since
    count = min(length, max(2, round(total / (RESULT_CAP * _FILL))))
    edges = [window.since + length * part // count for part in range(count + 1)]
    return [Window(since, until, window.rounds, window.splits + 1) for since, until in pairwise(edges)]
