"""How much of what happened in an hour. Rule: it reads the store once for each hour; what is unusual others decide.

Deletions and their like that no handler claims count too: the head of a delivery says how many were ignored.
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
_COUNTED_OUTCOMES: Final = TERMINAL - {Outcome.DISCARDED}  # that follows on a dead letter, which has been counted


async def hourly_counts(engine: AsyncEngine, hour: int) -> Counter[str]:
    """Count what happened in an hour, given as the number of hours since the epoch.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    since = hour * HOUR_MS
    within = (RECORDS.c.at >= since, RECORDS.c.at < since + HOUR_MS)
    return await _count_outcomes(engine, within) + await _count_at_ingest(engine, within)


async def _count_outcomes(engine: AsyncEngine, hour_filter: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    names = (RECORDS.c.outcome, RECORDS.c.subscription_type)
    query = (
        select(*names, func.count().label("count"))
        .where(*hour_filter, RECORDS.c.action == Action.EVENT)
        .group_by(*names)
    )
    counts: Counter[str] = Counter()
    for row in await fetch(engine, query):
        if row["outcome"] not in _COUNTED_OUTCOMES:
            continue
        counts += _count_for_type(str(row["subscription_type"]), int(row["count"] or 0))
        if row["outcome"] == Outcome.DEAD:
            counts[HourlyCount.DEAD_LETTERS] += int(row["count"] or 0)
    return counts


async def _count_at_ingest(engine: AsyncEngine, hour_filter: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    detail = RECORDS.c.detail
    told = or_(detail.contains(".deletion"), detail.contains(".privacyDeletion"), detail.contains(".merge"))
    asked = or_(RECORDS.c.action == Action.REQUESTS_REFUSED, (RECORDS.c.action == Action.DELIVERY_RECEIVED) & told)
    counts: Counter[str] = Counter()
    for row in await fetch(engine, select(detail).where(*hour_filter, asked)):
        fields = orjson.loads(str(row["detail"] or "{}"))
        for name, count in fields.get("ignored", {}).items():
            counts += _count_for_type(name, count)
        for reason, count in fields.get("reasons", {}).items():
            if reason.startswith(("signature", "timestamp", "too_many_failures")):
                counts[HourlyCount.SIGNATURE_FAILURES] += count
    return counts


def _count_for_type(subscription_type: str, count: int) -> Counter[str]:
    volume = _COUNT_BY_EVENT_KIND.get(subscription_type.rpartition(".")[2])
    return Counter({volume.value: count}) if volume else Counter()
