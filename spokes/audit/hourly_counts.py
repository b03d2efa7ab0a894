"""Hourly counts for anomaly alerts; `workers.upkeep.anomaly_watch` decides what is unusual.

The store is read once per hour. Deletions, merges and privacy deletions count even if no handler is registered for
them: the record of a delivery has the number of ignored events by type.
"""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final

import orjson
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import TERMINAL, Action, Outcome
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS

HOUR_MS: Final = 3_600_000


@unique
class HourlyCount(StrEnum):
    """What is counted."""

    DELETIONS = "deletions"
    PRIVACY_DELETIONS = "privacy_deletions"
    MERGES = "merges"
    SIGNATURE_FAILURES = "signature_failures"
    DEAD_LETTERS = "dead_letters"


_COUNT_BY_EVENT_KIND: Final[Mapping[str, HourlyCount]] = {
    "deletion": HourlyCount.DELETIONS,
    "privacyDeletion": HourlyCount.PRIVACY_DELETIONS,
    "merge": HourlyCount.MERGES,
}
_COUNTED_OUTCOMES: Final = TERMINAL - {
    Outcome.DISCARDED
}  # an event is discarded after `dead`, so it is counted already


async def hourly_counts(engine: AsyncEngine, hour: int) -> Counter[str]:
    """Return the counts of an hour, given as the number of hours since the epoch.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    since = hour * HOUR_MS
    hour_filter = (RECORDS.c.at >= since, RECORDS.c.at < since + HOUR_MS)
    return await _count_outcomes(engine, hour_filter) + await _count_at_ingest(engine, hour_filter)


async def _count_outcomes(engine: AsyncEngine, hour_filter: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    groups = (RECORDS.c.outcome, RECORDS.c.subscription_type)
    events = select(*groups, func.count().label("count")).where(*hour_filter, RECORDS.c.action == Action.EVENT)
    counts: Counter[str] = Counter()
    for row in await fetch(engine, events.group_by(*groups)):
        if row["outcome"] not in _COUNTED_OUTCOMES:
            continue
        counts += _count_for_type(str(row["subscription_type"]), int(row["count"] or 0))
        if row["outcome"] == Outcome.DEAD:
            counts[HourlyCount.DEAD_LETTERS] += int(row["count"] or 0)
    return counts


async def _count_at_ingest(engine: AsyncEngine, hour_filter: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    detail = RECORDS.c.detail
    names_a_kind = or_(detail.contains(".deletion"), detail.contains(".privacyDeletion"), detail.contains(".merge"))
    ignored = (RECORDS.c.action == Action.DELIVERY_RECEIVED) & names_a_kind
    relevant = or_(RECORDS.c.action == Action.REQUESTS_REFUSED, ignored)
    counts: Counter[str] = Counter()
    for row in await fetch(engine, select(detail).where(*hour_filter, relevant)):
        fields = orjson.loads(str(row["detail"] or "{}"))
        for subscription_type, count in fields.get("ignored", {}).items():
            counts += _count_for_type(subscription_type, count)
        for reason, count in fields.get("reasons", {}).items():
            if reason.startswith(("signature", "timestamp", "too_many_failures")):
                counts[HourlyCount.SIGNATURE_FAILURES] += count
    return counts


def _count_for_type(subscription_type: str, count: int) -> Counter[str]:
    name = _COUNT_BY_EVENT_KIND.get(subscription_type.rpartition(".")[2])
    return Counter({name.value: count}) if name else Counter()
