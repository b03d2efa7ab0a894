"""Search the next windows of a walk while its first one is read.

The searches of one window follow each other, because each asks for ids above the last page. So with one window at a
time, the time that HubSpot takes for a search limits a backfill, and not HubSpot's limits. The pages of a window are
those that the walk itself would ask for: it takes them in its own order, and its checkpoint knows nothing of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeAlias

from spokes.backfill.crm_reader import SearchPage
from spokes.backfill.window_walk import Query, Walk, Window, is_split

_WINDOWS: Final = 3  # that are searched at a time
_PAGES_AHEAD: Final = 20  # of one window: what is read ahead stays in memory


_Pages: TypeAlias = "asyncio.Queue[tuple[Query, SearchPage] | Exception]"


class _Window(NamedTuple):
    """A window that is searched: the task, and its pages, each with the query that it answers; or an error."""

    task: asyncio.Task[None]
    pages: _Pages


class SearchAhead:
    """Pages of a walk, for one task; an async context that ends what is still being searched."""

    def __init__(self, search: Callable[[Query], Awaitable[SearchPage]]) -> None:
        self._search = search
        self._windows: dict[Window, _Window] = {}

    async def __aenter__(self) -> Self:
        """Return this object."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the searches in flight."""
        await self._end([*self._windows])

    async def page(self, walk: Walk, query: Query) -> SearchPage:
        """Return the page of a walk's next query.

        Raises:
            CRMError: HubSpot refuses the search, or has failed for long.
        """
        closed = [window for window in walk.windows[:_WINDOWS] if window.until is not None]
        await self._end([window for window in self._windows if window not in closed])
        if query.is_count or query.window not in closed:
            return await self._search(query)
        for window in closed:
            if window not in self._windows:
                self._windows[window] = self._start(window, query.after_id if window == query.window else 0)
        found = await self._windows[query.window].pages.get()
        if isinstance(found, Exception):
            raise found
        answered, page = found
        assert answered == query, "the walk is pure: it asks for the same pages"  # noqa: S101 - an invariant, not a check of input
        return page

    def _start(self, window: Window, after_id: int) -> _Window:
        pages: _Pages = asyncio.Queue(_PAGES_AHEAD)
        return _Window(asyncio.create_task(self._read(Walk((window,), after_id), pages)), pages)

    async def _read(self, walk: Walk, pages: _Pages) -> None:
        """Search one window to its end, or until it is split."""
        try:
            while (query := walk.next_query()) is not None and not query.is_count:
                found = await self._search(query)
                await pages.put((query, found))
                if is_split(query, found.page):
                    return
                walk = walk.advance(query, found.page)
        except Exception as error:  # noqa: BLE001 - raised where the walk takes the page
            await pages.put(error)

    async def _end(self, windows: list[Window]) -> None:
        tasks = [self._windows.pop(window).task for window in windows]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
