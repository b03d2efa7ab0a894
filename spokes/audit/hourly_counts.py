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
class Volume(StrEnum):
    """What is counted."""

    DELETIONS = "deletions"
    PRIVACY_DELETIONS = "privacy_deletions"
    MERGES = "merges"
    SIGNATURE_FAILURES = "signature_failures"
    DEAD_LETTERS = "dead_letters"


_KINDS: Final[Mapping[str, Volume]] = {
    "deletion": Volume.DELETIONS,
    "privacyDeletion": Volume.PRIVACY_DELETIONS,
    "merge": Volume.MERGES,
}
_ENDED: Final = TERMINAL - {Outcome.DISCARDED}  # that follows on a dead letter, which has been counted


async def volumes(engine: AsyncEngine, hour: int) -> Counter[str]:
    """Count what happened in an hour, given as the number of hours since the epoch.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    since = hour * HOUR_MS
    within = (RECORDS.c.at >= since, RECORDS.c.at < since + HOUR_MS)
    return await _ended(engine, within) + await _at_the_door(engine, within)


async def _ended(engine: AsyncEngine, within: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    names = (RECORDS.c.outcome, RECORDS.c.subscription_type)
    query = (
        select(*names, func.count().label("count")).where(*within, RECORDS.c.action == Action.EVENT).group_by(*names)
    )
    counts: Counter[str] = Counter()
    for row in await fetch(engine, query):
        if row["outcome"] not in _ENDED:
            continue
        counts += _of_type(str(row["subscription_type"]), int(row["count"] or 0))
        if row["outcome"] == Outcome.DEAD:
            counts[Volume.DEAD_LETTERS] += int(row["count"] or 0)
    return counts


async def _at_the_door(engine: AsyncEngine, within: tuple[ColumnElement[bool], ...]) -> Counter[str]:
    detail = RECORDS.c.detail
    told = or_(detail.contains(".deletion"), detail.contains(".privacyDeletion"), detail.contains(".merge"))
    asked = or_(RECORDS.c.action == Action.REQUESTS_REFUSED, (RECORDS.c.action == Action.DELIVERY_RECEIVED) & told)
    counts: Counter[str] = Counter()
    for row in await fetch(engine, select(detail).where(*within, asked)):
        fields = orjson.loads(str(row["detail"] or "{}"))
        for name, count in fields.get("ignored", {}).items():
            counts += _of_type(name, count)
        for reason, count in fields.get("reasons", {}).items():
            if reason.startswith(("signature", "timestamp", "too_many_failures")):
                counts[Volume.SIGNATURE_FAILURES] += count
    return counts


def _of_type(subscription_type: str, count: int) -> Counter[str]:
    volume = _KINDS.get(subscription_type.rpartition(".")[2])
    return Counter({volume.value: count}) if volume else Counter()
