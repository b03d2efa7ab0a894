"""`JournalReader`: read the journal page by page, for as long as this process holds the lease.

The cursor moves to a page only after everything in it is durable. Every error leaves it where it is: the page is read
again, and what Redis knows already is dropped. Two readers at a time (a lapsed lease) cost duplicates, never an event.
"""

import asyncio
import random
from dataclasses import replace
from itertools import pairwise
from typing import Final

import structlog
from redis.asyncio import Redis

from ingest.journal.client import JournalClient, PageLocation
from ingest.journal.errors import JournalError, JournalRefused, JournalUnavailable, OffsetUnknown, UnreadableLocation
from ingest.journal.lost_pages import LostPages
from ingest.journal.page_intake import PageIntake
from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.errors import QueueUnavailable
from spokes.core.redis.keys import JOURNAL_READER
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.redis.outage import RedisOutage
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metrics import JOURNAL_PAGES
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.reports import report_missed
from spokes.intake.journal.cursor import KEPT_MS, Cursor, load_cursor, replace_cursor
from spokes.intake.journal.page_scanner import UnreadablePage

LEASE_MS: Final = 10_000
RENEW_EVERY_S: Final = 2.0  # seconds
_IDLE_S: Final = 2.0  # between two reads of a journal that has nothing new
_FIRST_BACKOFF_S: Final = 0.5
_LONGEST_BACKOFF_S: Final = 60.0
_REFUSED_S: Final = 60.0  # between tries while HubSpot refuses the app
_COMPARE_EVERY: Final = (
    15  # answers of "nothing new": then the newest page is compared, because an old offset may get them
)
_UNREADABLE_TRIES: Final = 3
_JOURNAL_KEEPS_MS: Final = 72 * 3_600_000
_LOST_MARGIN_MS: Final = 300_000  # by which HubSpot's clock may be behind ours, and events before their page
_MOST_RESTARTS: Final = 2  # in a row: the second tells a lapse of HubSpot's from an offset that stays unknown
log = structlog.get_logger()


class JournalReader:
    """Reads the journal of one app; `run` and `renew_lease` are background tasks."""

    def __init__(self, redis: Redis, client: JournalClient, intake: PageIntake) -> None:
        self._redis = redis
        self._client = client
        self._intake = intake
        self._episodes = AlertEpisodes(redis)
        self._lease = LeaderLock(redis, JOURNAL_READER, lease_ms=LEASE_MS)
        self._failures = 0
        self._unreadable = 0  # how often the next page was no page
        self._lost_pages = LostPages(client)
        self._nothing_new = 0  # answers in a row; the first one is compared
        self._is_refused = True  # until HubSpot has answered: an earlier process may have begun the alert

    async def renew_lease(self) -> None:
        """Acquire or renew the lease; call it often, so that a long page does not lose it.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self._lease.is_leader()

    async def run(self, outage: RedisOutage, task: str) -> None:
        """Read until cancelled; `task` is for `outage`.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        while True:
            wait_s = await self.step() if await self._lease.is_leader() else RENEW_EVERY_S
            outage.mark_available(task)
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Release the lease, so that another reader need not wait."""
        await self._lease.release()

    async def step(self) -> float:
        """Read at most one page; return the seconds until the next step.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        stored, started_at = await load_cursor(self._redis), clock.now_ms()
        cursor = replace(stored, read_until=min(stored.read_until, started_at))  # a clock may have been ahead
        try:
            location = await self._find_next(cursor)
            if location is None or location.offset == cursor.offset:
                wait_s = await self._on_nothing_new(cursor, started_at)
            else:
                wait_s = await self._read_page(cursor, location)
        except OffsetUnknown as error:
            wait_s = await self._restart(cursor, error)
        except UnreadableLocation as error:
            return await self._on_unreadable(cursor, error)
        except JournalRefused as error:
            return await self._on_refused(error)
        except (JournalUnavailable, QueueUnavailable) as error:
            return self._backoff_s(error)
        self._failures = 0
        await self._set_refused(is_refused=False)
        if not cursor.lost_since:
            await self._intake.proofs.report(cursor.read_until)
        return wait_s

    async def _find_next(self, cursor: Cursor) -> PageLocation | None:
        """Return the next page, None if there is none.

        HubSpot's docs name no answer for an offset that the journal does not keep any more. So "unknown" may mean that
        nothing is behind the offset, and "nothing" may mean that it is unknown: the newest page decides.

        Raises:
            OffsetUnknown: the journal goes on elsewhere.
        """
        if not cursor.offset:
            return await self._client.earliest()
        code = "204"
        try:
            location = await self._client.next_after(cursor.offset)
        except OffsetUnknown as error:
            location, code = None, error.code
        if location is not None or (code == "204" and self._nothing_new % _COMPARE_EVERY):
            return location
        newest = await self._client.latest()
        if newest is not None and newest.offset == cursor.offset:
            return None
        if newest is None and cursor.age_ms(clock.now_ms()) < KEPT_MS:
            return None  # nothing was published since, or the journal would still keep it
        try:
            location = await self._client.next_after(cursor.offset)  # it may have been published in between
        except OffsetUnknown:
            location = None
        if location is None:
            location = await self._find_listed(cursor)
        if location is None:
            raise OffsetUnknown(code)
        return location

    async def _find_listed(self, cursor: Cursor) -> PageLocation | None:
        """Return what follows a page that HubSpot lists, and does not know by its offset; None if it lists it not."""
        pages = await self._client.pages_after(cursor.known_offset)
        return next((after for page, after in pairwise(pages) if page.offset == cursor.offset), None)

    async def _restart(self, cursor: Cursor, error: OffsetUnknown) -> float:
        """Start again at the earliest page. The first page read then shows whether the journal has a gap.

        Where that led to an offset that is unknown again, the reader goes on at the newest page, and reports the gap.
        """
        since = cursor.lost_since or cursor.read_until
        newest = await self._client.latest() if cursor.restarts >= _MOST_RESTARTS else None
        if newest is not None:
            log.warning("journal_skipped", status=error.code, behind_s=cursor.age_ms(clock.now_ms()) // 1000)
            await self._report_gap(since, clock.now_ms())
            return await self._read_page(replace(cursor, lost_since=0, restarts=0), newest)
        log.warning("journal_restarted", status=error.code, behind_s=cursor.age_ms(clock.now_ms()) // 1000)
        await self._move(cursor, Cursor("", cursor.read_until, since, cursor.restarts + 1))
        await self._episodes.report_once(Alert.JOURNAL_RESTARTED, status=error.code, since=since)
        return 0.0

    async def _on_nothing_new(self, cursor: Cursor, at: int) -> float:
        """Note that everything published until then is read, if it was not deleted before."""
        self._nothing_new += 1
        if cursor.lost_since and at - cursor.lost_since > KEPT_MS:
            await self._report_gap(cursor.lost_since, at)
        await self._move(cursor, Cursor(cursor.offset, max(at, cursor.read_until), known_offset=cursor.known_offset))
        return _IDLE_S

    async def _read_page(self, cursor: Cursor, location: PageLocation) -> float:
        self._nothing_new = 0
        try:
            published_at = await self._intake.admit(location.offset, self._client.file(location))
        except UnreadablePage:
            self._unreadable += 1
            if self._unreadable < _UNREADABLE_TRIES:
                raise JournalUnavailable("unreadable_page") from None
            published_at = None
            await self._intake.keep_unread(self._client.file(location))
        except JournalUnavailable as error:
            if await self._lost_pages.is_file_lost(location, error.code):
                return await self._skip(cursor, location)
            raise
        self._unreadable = 0
        if published_at:
            published_at = min(published_at, clock.now_ms())  # a later time would cover what nobody has published yet
        if cursor.lost_since and published_at and published_at > cursor.lost_since:
            await self._report_gap(cursor.lost_since, published_at)
        lost_since = 0 if published_at else cursor.lost_since
        await self._intake.proofs.keep(published_at or clock.now_ms())
        read_until = max(published_at or 0, cursor.read_until)
        to = Cursor(location.offset, read_until, lost_since, cursor.restarts, location.asked_for)
        await self._move(cursor, to)
        JOURNAL_PAGES.inc()
        return 0.0

    async def _on_unreadable(self, cursor: Cursor, error: UnreadableLocation) -> float:
        """Try again, or go on elsewhere if the page behind the cursor is lost."""
        try:
            location = await self._lost_pages.find_behind(cursor.offset, error)
            if location is None:
                return self._backoff_s(error)
            if not location.url:
                return await self._skip(cursor, location)
            return await self._read_page(replace(cursor, lost_since=await self._report_lost(cursor)), location)
        except JournalRefused as refusal:
            return await self._on_refused(refusal)
        except (JournalUnavailable, QueueUnavailable) as unavailable:
            return self._backoff_s(unavailable)

    async def _skip(self, cursor: Cursor, location: PageLocation) -> float:
        """Go on behind a page that is lost; when the next page is read, the gap between them is reported."""
        since = await self._report_lost(cursor)
        await self._move(cursor, Cursor(location.offset, cursor.read_until, since, cursor.restarts, location.asked_for))
        return 0.0

    async def _report_lost(self, cursor: Cursor) -> int:
        """Alert that the page behind the cursor is lost; return since when entries are missing (epoch ms)."""
        now = clock.now_ms()
        since = cursor.lost_since or max(1, (cursor.read_until or now - _JOURNAL_KEEPS_MS) - _LOST_MARGIN_MS)
        await self._episodes.report_once(Alert.JOURNAL_PAGE_LOST, level="critical", since=since)
        return since

    async def _report_gap(self, since: int, until: int) -> None:
        await self._intake.proofs.forget()
        await report_missed(self._redis, MissedInterval(since=since, until=until, cause=GapCause.CURSOR_TOO_OLD))

    async def _move(self, cursor: Cursor, to: Cursor) -> None:
        if not await replace_cursor(self._redis, self._lease.token, cursor, to):
            self._lease.doubt()
            raise JournalUnavailable("another_reader")

    async def _on_refused(self, error: JournalError) -> float:
        log.error("journal_refused", code=error.code)
        await self._set_refused(is_refused=True, code=error.code)
        return _REFUSED_S

    async def _set_refused(self, *, is_refused: bool, code: str = "") -> None:
        if is_refused or self._is_refused:
            await self._episodes.set_state(Alert.JOURNAL_REFUSED, is_active=is_refused, code=code)
        self._is_refused = is_refused

    def _backoff_s(self, error: JournalError | QueueUnavailable) -> float:
        self._failures += 1
        code = error.code if isinstance(error, JournalError) else error.reason
        log.warning("journal_read_failed", error=code, failures=self._failures)
        asked_s = error.retry_after_s if isinstance(error, JournalUnavailable) else 0.0
        return backoff_s(self._failures, asked_s, random.uniform(0.5, 1.0))


def backoff_s(failures: int, asked_s: float, jitter: float) -> float:
    """Return the seconds to wait after this many failures in a row; HubSpot's own wait wins."""
    return max(asked_s, min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10)) * jitter)
