"""`PageIntake`: admit the events of one page while it arrives, in slices, with bounded memory.

Everything of a slice is admitted, kept in quarantine or noted for a worker before the next slice is read. A page that
is read again after a failure goes on where it stopped, and what Redis knows from it already is dropped as known.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.journal.errors import JournalUnavailable
from ingest.journal.proofs import JournalProofs
from spokes.core import clock
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.telemetry.metrics import JOURNAL_EVENTS
from spokes.intake.arrivals import Arrivals
from spokes.intake.backpressure import Backpressure, PressureLevel
from spokes.intake.body_parser import ParsedBody
from spokes.intake.event_source import EventSource
from spokes.intake.journal.page_events import PageEvents, read_entries
from spokes.intake.journal.page_scanner import PageScanner, UnreadablePage
from spokes.portals.lifecycles import note_lifecycles

_SLICE_ENTRIES: Final = 1_000
_DELIVERY_EVENTS: Final = 100  # as many as HubSpot pushes in one request
_ROOM_POLL_S: Final = 1.0
_MAX_KEPT_BYTES: Final = 16 * 1024 * 1024


class PageIntake:
    """Admits pages; it remembers how far the page of an offset has been admitted."""

    def __init__(self, redis: Redis, source: EventSource, backpressure: Backpressure) -> None:
        self._redis = redis
        self._source = source
        self._backpressure = backpressure
        self.arrivals = Arrivals()
        self.proofs = JournalProofs(redis)
        self._offset = ""
        self._entries_done = 0

    async def admit(self, offset: str, chunks: AsyncGenerator[bytes, None]) -> int | None:
        """Admit everything in the page of an offset; return when it was published (epoch ms), None if it does not say.

        Raises:
            UnreadablePage: the content is no page; what was readable before is admitted.
            QueueUnavailable: Redis did not confirm.
            JournalUnavailable: the file could not be read to its end.
        """
        if offset != self._offset:
            self._offset, self._entries_done = offset, 0
        scanner = PageScanner()
        async with aclosing(self._slices(chunks, scanner)) as slices:
            position = 0
            admission: asyncio.Task[None] | None = None
            try:
                async for entries in slices:
                    position += len(entries)
                    if position > self._entries_done:
                        page = read_entries(entries, position - len(entries))  # while Redis works on the slice before
                        if admission is not None:
                            await admission
                        admission = asyncio.create_task(self._admit_slice(offset, page, position))
            except asyncio.CancelledError:
                if admission is not None:
                    admission.cancel()  # it may wait for room in the queue
                raise
            except (UnreadablePage, JournalUnavailable):
                if admission is not None:
                    await admission
                raise
        if admission is not None:
            await admission
        scanner.finish()
        return scanner.published_at

    async def _slices(
        self, chunks: AsyncGenerator[bytes, None], scanner: PageScanner
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the entries of a page in slices of equal size; only the last one is smaller.

        Raises:
            UnreadablePage, JournalUnavailable: as `admit`; the entries before are yielded.
        """
        waiting: list[bytes] = []
        try:
            async with aclosing(chunks) as stream:
                async for chunk in stream:
                    waiting += scanner.feed(chunk)
                    while len(waiting) >= _SLICE_ENTRIES:
                        yield waiting[:_SLICE_ENTRIES]
                        del waiting[:_SLICE_ENTRIES]
        except UnreadablePage:
            if waiting:
                yield waiting
            raise
        if waiting:
            yield waiting

    async def keep_unread(self, chunks: AsyncGenerator[bytes, None]) -> None:
        """Keep the content of a page that is none in quarantine, its first 16 MB.

        Raises:
            QueueUnavailable, JournalUnavailable: as `admit`.
        """
        content = b""
        async with aclosing(chunks) as stream:
            async for chunk in stream:
                if len(content) < _MAX_KEPT_BYTES:
                    content += chunk
        await self._source.keep_unreadable(content[:_MAX_KEPT_BYTES], "unreadable_page")

    async def _admit_slice(self, offset: str, page: PageEvents, end: int) -> None:
        """Admit what a slice holds, as soon as there is room; it ends at an index of its page."""
        while self._backpressure.level is not PressureLevel.ALL:  # noqa: ASYNC110 - the measurement signals nobody
            await asyncio.sleep(_ROOM_POLL_S)
        try:
            await note_lifecycles(self._redis, page.lifecycles)
        except (RedisError, OSError, TimeoutError) as error:
            raise QueueUnavailable from error
        await self._admit_parsed(offset, page.parsed)
        self.arrivals.note_journal(
            page.parsed.events,
            clock.now_ms(),
            allow_list=self._source.allow_list,
            portal_ids=self._source.portal_ids,
        )
        self.proofs.note(page.parsed.events)
        self._entries_done = end

    async def _admit_parsed(self, offset: str, parsed: ParsedBody) -> None:
        parts = [ParsedBody(part, [], parsed.unlisted) for part in _deliveries(parsed.events)]
        if parsed.malformed:
            parts.append(parsed._replace(events=[]))
        for summary in await asyncio.gather(*(self._source.admit_parsed(part, origin=offset) for part in parts)):
            for result in ("admitted", "duplicate", "ignored", "quarantined"):
                if count := summary[result]:
                    JOURNAL_EVENTS.labels(result).inc(count)


def _deliveries(events: Sequence[Event]) -> list[list[Event]]:
    """Return the events of each portal in parts of at most as many as HubSpot pushes together."""
    portals: dict[int, list[Event]] = {}
    for event in events:
        portals.setdefault(event.portal_id, []).append(event)
    size = _DELIVERY_EVENTS
    return [own[first : first + size] for own in portals.values() for first in range(0, len(own), size)]
