"""Compare one day of HubSpot's records with the events that arrived; a difference becomes a gap.

A comparison stores nothing until its end, and then counts and times only: a process that is killed compares again from
the beginning.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import write_connection
from spokes.backfill.checkpoint import Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.known_merges import known_merges
from spokes.backfill.plan import BackfillPlan, make_plan
from spokes.backfill.received_events import ReceivedEvents, ShownEvent
from spokes.backfill.record_events import (
    CALCULATED_MS,
    Interval,
    archived_events,
    creation_time,
    merge_times,
    merged_ids,
    record_events,
)
from spokes.backfill.window_walk import Walk, is_split
from spokes.core import clock
from spokes.core.errors import RecoveryRefused
from spokes.core.events import Event, RawEvent
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.telemetry.metrics import RECONCILED_EVENTS
from spokes.crm.services import CRM
from spokes.crm.transport.response_json import Json
from spokes.gaps.gap import GapCause, MissedInterval, scopes_of
from spokes.gaps.ledger import GapLedger
from spokes.intake.allow_list import AllowList

DAY_MS: Final = 86_400_000
SETTLED_AFTER_MS: Final = 2 * 3_600_000  # after the end of a day; deliveries of its last minutes have come by then
_WITHOUT_EVENTS: Final = frozenset({"CALCULATED"})  # sources of changes for which HubSpot is reported to send no events
_INITIAL_MS: Final = 1_000  # after the creation of a record, in which its first values are written
_MERGE_MS: Final = 1_000  # what a merge writes has its time, within a second; the record names it up to a minute later
_INDEX_MARGIN_MS: Final = 60_000  # changes of the last minute are read last
log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What one comparison saw.

    Attributes:
        portal_id: of the records.
        object_type: of the records.
        since: the begin of the day, in epoch ms.
        until: its end.
        records: records that were read; those that changed since the begin of the day, and those in the recycle bin.
        events: events of the day that had to arrive.
        own: events that did not arrive, and that a write of ours explains.
        missing: events that did not arrive.
        undated: records whose changes HubSpot did not date, so nothing is known of them.
        unproven: records that HubSpot counts and its search did not show.
        first_missing: epoch ms of the first missing event, 0 without one.
        last_missing: epoch ms of the last one.
        calls: calls to HubSpot, by kind.
    """

    portal_id: int
    object_type: str
    since: int
    until: int
    records: int = 0
    events: int = 0
    own: int = 0
    missing: int = 0
    undated: int = 0
    unproven: int = 0
    first_missing: int = 0
    last_missing: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def count_missing(self, events: Iterable[Event]) -> None:
        """Count events that did not arrive."""
        for event in events:
            self.missing += 1
            self.first_missing = min(self.first_missing or event.occurred_at, event.occurred_at)
            self.last_missing = max(self.last_missing, event.occurred_at)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares days; the caller closes what it uses."""

    crm: CRM
    engine: AsyncEngine
    ledger: GapLedger
    received: ReceivedEvents
    actor: str = "spokes"
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def compare(self, portal_id: int, plan: BackfillPlan, day: Interval, allowed: AllowList) -> Comparison:
        """Compare one type of records; report what is missing as a gap, and write an audit record.

        Args:
            portal_id: of the records.
            plan: what handlers register for.
            day: a settled one.
            allowed: the events that are queued in the portal.

        Raises:
            CRMError: HubSpot refuses, or has failed for long.
            AuditUnavailable: the audit store does not answer.
            RedisError, OSError: Redis does not answer.
        """
        comparison = Comparison(portal_id=portal_id, object_type=plan.object_type, since=day.since, until=day.until)
        counts = Counts(calls=comparison.calls)
        # Merges are read even if no handler registers for them: they explain changes, and events name the old ids.
        reader = CRMReader(self.crm, portal_id, replace(plan, merges=True), counts)
        if plan.reads_records:
            await self._compare_records(reader, plan, day, allowed, comparison)
        if plan.deletions:
            await self._compare_archived(reader, plan, day, allowed, comparison)
        await self._conclude(comparison)
        return comparison

    async def _compare_records(
        self, reader: CRMReader, plan: BackfillPlan, day: Interval, allowed: AllowList, comparison: Comparison
    ) -> None:
        walk = Walk.start(day.since, clock.now_ms() - _INDEX_MARGIN_MS)
        while (query := walk.next_query()) is not None:
            if query.window.until is None and not query.after_id and walk.has_moved_records:
                await self.sleep(_INDEX_MARGIN_MS / 1000)
            page, records = await reader.search(query)
            walk = walk.advance(query, page)
            if query.is_count or is_split(query, page):
                continue
            if page.ids:
                records = await reader.with_history(page.ids)
            comparison.records += len(records)
            comparison.undated += sum(_is_undated(plan, record) for record in records)
            ids = {merged_id for record in records for merged_id in merged_ids(record)} if plan.merges else set()
            known = await known_merges(self.engine, comparison.portal_id, ids)
            shown = [
                ShownEvent(Event(raw), merged_ids(record))
                for record in records
                for raw in record_events(plan, comparison.portal_id, record, day, known, is_dated_only=True)
                if not _is_made_by_merge(raw, merge_times(record).values()) and not _is_initial(raw, record)
            ]
            await self._count(shown, allowed, comparison)
        comparison.unproven = walk.unproven

    async def _compare_archived(
        self, reader: CRMReader, plan: BackfillPlan, day: Interval, allowed: AllowList, comparison: Comparison
    ) -> None:
        after, is_last = "", False
        while not is_last:
            records, after = await reader.archived(after)
            is_last = not after
            comparison.records += len(records)
            deletions = [
                Event(raw) for record in records for raw in archived_events(plan, comparison.portal_id, record, day)
            ]
            merged = await known_merges(self.engine, comparison.portal_id, {event.object_id for event in deletions})
            shown = [ShownEvent(event) for event in deletions if event.object_id not in merged]
            await self._count(shown, allowed, comparison)

    async def _count(self, shown: Sequence[ShownEvent], allowed: AllowList, comparison: Comparison) -> None:
        awaited = [each for each in shown if _is_awaited(each.event, allowed)]
        missing = await self.received.missing(comparison.portal_id, awaited)
        comparison.events += len(awaited)
        comparison.own += len(missing.own)
        comparison.count_missing(missing.expected)

    async def _conclude(self, comparison: Comparison) -> None:
        """Report the gap first: without the audit record, the day is compared again."""
        if comparison.missing:
            missed = MissedInterval(
                portal_id=comparison.portal_id, scope=comparison.object_type, since=comparison.first_missing,
                until=comparison.last_missing + 1, cause=GapCause.NOT_RECEIVED,
            )  # fmt: skip
            await self.ledger.report(missed)
        counts = {
            name: getattr(comparison, name)
            for name in ("since", "until", "records", "events", "missing", "own", "undated", "unproven", "calls")
        }
        record = AuditRecord(
            action=Action.RECONCILED, portal_id=comparison.portal_id, actor=self.actor,
            detail={"object_type": comparison.object_type, **counts},
        )  # fmt: skip
        async with write_connection(self.engine) as connection:
            await self.ledger.audit.append(connection, [record])
        log.info("reconciled", portal_id=comparison.portal_id, object_type=comparison.object_type, **counts)
        arrived = comparison.events - comparison.missing - comparison.own
        for result, count in (("arrived", arrived), ("own_write", comparison.own), ("missing", comparison.missing)):
            RECONCILED_EVENTS.labels(result).inc(count)


def plans_of(registrations: Iterable[str]) -> Iterator[BackfillPlan]:
    """Yield what is compared: each type of records that handlers name, with the properties that they name.

    Changes of every property, and events of every type, are not compared: which records would show them is unknown.
    """
    named = list(registrations)
    for scope in scopes_of(named):
        every_property = {f"{scope}.propertyChange", "object.propertyChange"}
        try:
            if "." not in scope:
                yield make_plan(scope, [name for name in named if name not in every_property])
        except RecoveryRefused:
            continue  # handlers register for every property only


def day_of(at_ms: int) -> Interval:
    """Return the day in UTC that contains a time."""
    since = at_ms - at_ms % DAY_MS
    return Interval(since, since + DAY_MS)


def newest_settled_day(now_ms: int) -> Interval:
    """Return the last day whose deliveries have come."""
    return day_of(now_ms - SETTLED_AFTER_MS - DAY_MS)


def day_name(day: Interval) -> str:
    """Return the date of a day."""
    return datetime.fromtimestamp(day.since / 1000, UTC).date().isoformat()


async def is_archived(redis: Redis, day: Interval) -> bool:
    """Return whether every record of the day is in the audit store; until then, what arrived is unknown.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    oldest = await redis.xrange(AUDIT_STREAM, count=1)
    return not oldest or int(oldest[0][0].partition(b"-")[0]) >= day.until


def _is_awaited(event: Event, allowed: AllowList) -> bool:
    return allowed.allows(event) and event.change_source not in _WITHOUT_EVENTS


def _is_made_by_merge(raw: RawEvent, times: Iterable[int]) -> bool:
    """Return whether a merge wrote this: HubSpot sends an event of the merge, and none of the values it moves."""
    at = int(raw["occurredAt"])
    is_merge = str(raw["subscriptionType"]).endswith(".merge")
    return not is_merge and any(time - CALCULATED_MS <= at <= time + _MERGE_MS for time in times)


def _is_initial(raw: RawEvent, record: Json) -> bool:
    """Return whether the record was created with this value: the creation is an event, and this may be none."""
    return "propertyName" in raw and int(raw["occurredAt"]) <= creation_time(record) + _INITIAL_MS


def _is_undated(plan: BackfillPlan, record: Json) -> bool:
    return bool(plan.properties) and not isinstance(record.get("propertiesWithHistory"), dict)
