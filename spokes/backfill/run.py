"""Run one backfill: read, make events, admit them, store the checkpoint; then prove the gaps that it covers.

The checkpoint moves only after the events of its pages are admitted, in order. A process that is killed leaves pages to
be read again; their events are known by then. While a page's events are made and admitted, the next pages are read,
and those of the next windows are searched (`search_ahead`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.known_merges import known_merges
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.record_events import Interval, archived_events, merged_ids, record_events
from spokes.backfill.search_ahead import SearchAhead
from spokes.backfill.store import Backfill, BackfillState, BackfillStore
from spokes.backfill.window_walk import Walk, is_split
from spokes.core import clock
from spokes.core.errors import InvalidRequest, QueueUnavailable, RecoveryRefused, SpokesError
from spokes.core.events import RawEvent
from spokes.core.json_reading.json_fields import read_id
from spokes.core.priority import Priority
from spokes.crm.transport.response_json import Json, text_id
from spokes.gaps.gap import Gap, Proof, ProvenInterval
from spokes.gaps.ledger import GapLedger
from spokes.intake.classification import Summary

INDEX_LAG_S: Final = 30.0  # until HubSpot's search shows a change
_PAGES_IN_FLIGHT: Final = 8
_ADMITTED_TOGETHER: Final = 100  # events
_ADMISSION_RETRY_S: Final = 2.0
_ADMISSION_ATTEMPTS: Final = 150

log = structlog.get_logger()


class EventAdmission(Protocol):
    """Admits events: spokes.intake.event_source.EventSource."""

    async def admit(
        self, elements: Sequence[RawEvent], *, origin: str = "", priority: Priority | None = None
    ) -> Summary:
        """Admit elements; return how many had which result.

        Raises:
            QueueUnavailable: Redis did not confirm.
        """


@dataclass(frozen=True, slots=True)
class BackfillParts:
    """What a run uses; the caller opens and closes it.

    Attributes:
        room: returns once the queue has room for events of the import class.
        on_progress: called with the counts after each page.
    """

    store: BackfillStore
    ledger: GapLedger
    engine: AsyncEngine
    admission: EventAdmission
    room: Callable[[], Awaitable[None]]
    on_progress: Callable[[Counts], None] = lambda _: None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    index_lag_s: float = INDEX_LAG_S


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """How a run ended: the backfill as stored, and the gaps that it closed."""

    backfill: Backfill
    closed: tuple[Gap, ...] = ()


class _Left(Exception):
    """An operator wants another state than running."""


class BackfillRun:
    """One run of a backfill by this process."""

    def __init__(
        self, backfill: Backfill, plan: BackfillPlan, reader: CRMReader, parts: BackfillParts, *, runner: str
    ) -> None:
        """Run `backfill`, which `runner` has created or claimed; `reader` counts its calls in `backfill.counts`."""
        self._backfill = backfill
        self._plan = plan
        self._reader = reader
        self._parts = parts
        self._runner = runner
        self._counts = backfill.counts
        self._checkpoint = backfill.checkpoint
        self._interval = Interval(backfill.since, backfill.until)

    async def run(self) -> BackfillResult:
        """Read what is left; return how it ended. An error stops the backfill, which may be continued later.

        Raises:
            SpokesError: the audit store does not answer, or another process continues the backfill.
        """
        try:
            await self._read_records()
            await self._read_archived()
        except _Left:
            return BackfillResult(await self._parts.store.find(self._backfill.id))
        except RecoveryRefused:
            raise
        except (SpokesError, RedisError, OSError) as error:
            reason = error.reason if isinstance(error, SpokesError) else type(error).__name__
            log.warning("backfill_stopped", backfill=self._backfill.id, error=reason)
            await self._parts.store.end(self._backfill.id, self._runner, BackfillState.STOPPED, reason)
            return BackfillResult(await self._parts.store.find(self._backfill.id))
        closed = await self._prove()
        await self._parts.store.end(self._backfill.id, self._runner, BackfillState.FINISHED)
        return BackfillResult(await self._parts.store.find(self._backfill.id), closed)

    async def _read_records(self) -> None:
        """Walk over the records that changed, a few pages ahead of the checkpoint."""
        walk = self._checkpoint.walk
        in_flight: deque[tuple[asyncio.Task[None], BackfillCheckpoint]] = deque()
        try:
            async with SearchAhead(self._reader.search) as ahead:
                while (query := walk.next_query()) is not None:
                    if query.window.until is None and not query.after_id:
                        await self._wait_for_index(walk)
                    page, records = await ahead.page(walk, query)
                    is_read = not query.is_count and not is_split(query, page)
                    walk = walk.advance(query, page)
                    task = asyncio.create_task(
                        self._admit_records(records if is_read else (), page.ids if is_read else ())
                    )
                    in_flight.append((task, replace(self._checkpoint, walk=walk)))
                    if len(in_flight) >= _PAGES_IN_FLIGHT:
                        await self._commit(*in_flight.popleft())
            while in_flight:
                await self._commit(*in_flight.popleft())
        finally:
            for task, _ in in_flight:
                task.cancel()
            await asyncio.gather(*(task for task, _ in in_flight), return_exceptions=True)

    async def _read_archived(self) -> None:
        """Read the recycle bin page by page; from its beginning if HubSpot does not know the cursor any more."""
        is_restarted = False
        while not self._checkpoint.archived_done:
            try:
                records, after = await self._reader.archived(self._checkpoint.archived_after)
            except InvalidRequest:
                if is_restarted or not self._checkpoint.archived_after:
                    raise
                is_restarted, self._checkpoint = True, replace(self._checkpoint, archived_after="")
                continue
            backfill = self._backfill
            events = [
                event
                for record in records
                for event in archived_events(self._plan, backfill.portal_id, record, self._interval)
            ]
            self._counts.records += len(records)
            task = asyncio.create_task(self._admit(events))
            await self._commit(task, replace(self._checkpoint, archived_after=after, archived_done=not after))

    async def _commit(self, task: asyncio.Task[None], checkpoint: BackfillCheckpoint) -> None:
        """Store the checkpoint once its page is admitted.

        Raises:
            _Left: an operator paused or cancelled the backfill.
        """
        await task
        self._checkpoint = checkpoint
        state = await self._parts.store.save(self._backfill.id, self._runner, checkpoint, self._counts)
        self._parts.on_progress(self._counts)
        if state is not BackfillState.RUNNING:
            raise _Left

    async def _wait_for_index(self, walk: Walk) -> None:
        """Wait until the search shows every change of the interval, and every record that has changed since."""
        changed_until_s = clock.now_s() if walk.has_moved_records else self._backfill.until / 1000
        shown_at = changed_until_s + self._parts.index_lag_s
        if (wait_s := shown_at - clock.now_s()) > 0:
            await self._parts.sleep(wait_s)

    async def _admit_records(self, records: Sequence[Json], ids: Sequence[int]) -> None:
        if self._plan.properties and ids:
            listed, records = len(ids), await self._reader.with_history(ids)
            self._counts.gone += listed - len(records)
        elif merged := self._with_merges(records):
            dated = {text_id(record.get("id")): record for record in await self._reader.with_history(merged)}
            records = [dated.get(text_id(record.get("id")), record) for record in records]
        known = await self._known_merges(records)
        portal_id = self._backfill.portal_id
        self._counts.records += len(records)
        await self._admit(
            [
                event
                for record in records
                for event in record_events(self._plan, portal_id, record, self._interval, known)
            ]
        )

    async def _admit(self, events: Sequence[RawEvent]) -> None:
        self._counts.events += len(events)
        for start in range(0, len(events), _ADMITTED_TOGETHER):
            await self._parts.room()
            counts = await self._admit_patiently(events[start : start + _ADMITTED_TOGETHER])
            self._counts.admitted += counts["admitted"]
            self._counts.known += counts["duplicate"]

    async def _admit_patiently(self, events: Sequence[RawEvent]) -> Summary:
        for _ in range(_ADMISSION_ATTEMPTS):
            with suppress(QueueUnavailable):
                return await self._parts.admission.admit(events, origin=self._backfill.id, priority="import")
            await self._parts.sleep(_ADMISSION_RETRY_S)
        return await self._parts.admission.admit(events, origin=self._backfill.id, priority="import")

    def _with_merges(self, records: Sequence[Json]) -> list[int]:
        """Return the ids of the records that others were merged into: only a history dates that."""
        ids = (read_id(record.get("id")) for record in records if self._plan.merges and merged_ids(record))
        return [object_id for object_id in ids if object_id is not None]

    async def _known_merges(self, records: Sequence[Json]) -> set[str]:
        """Return the ids among those merged into these records whose merge is in the audit."""
        ids = {merged_id for record in records for merged_id in merged_ids(record)} if self._plan.merges else set()
        return await known_merges(self._parts.engine, self._backfill.portal_id, ids)

    async def _prove(self) -> tuple[Gap, ...]:
        """Close what this backfill proves: all events of the type in the interval, if nothing is left out."""
        if not self._plan.is_complete or self._checkpoint.walk.unproven:
            return ()
        backfill = self._backfill
        return await self._parts.ledger.prove(
            ProvenInterval(
                portal_id=backfill.portal_id, scope=backfill.object_type, since=backfill.since, until=backfill.until,
                proof=Proof.BACKFILL, closed_by=backfill.started_by, backfill=backfill.id,
            )
        )  # fmt: skip
