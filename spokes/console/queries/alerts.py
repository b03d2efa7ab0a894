"""The alerts that stand, what they mean and what to do. Rule: everybody's are seen only by who sees all portals."""

from dataclasses import dataclass
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core.delivery import ALERTS_ACTIVE
from spokes.core.telemetry.alerts import ALERT_TEXTS, Alert

_UNKNOWN: Final = ("An alert of a version that this one does not know.", "See the log of the workers.")


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert that stands: its name, what it is of, since when (epoch ms), its meaning, and what to do."""

    name: str
    subject: str
    since: int
    meaning: str
    advice: str
    portal_id: int
    fields: dict[str, object]


async def active_alerts(redis: Redis, portals: Portals) -> tuple[ActiveAlert, ...]:
    """Return the alerts that stand, the oldest first.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    kept: dict[bytes, bytes] = await redis.hgetall(ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async
    found = []
    for key, told in kept.items():
        name, _, of = key.decode().partition(":")
        fields = orjson.loads(told)
        since, portal_id = int(fields.pop("since", 0)), int(fields.pop("portal_id", 0))
        if can_see(portals, portal_id):
            meaning, advice = ALERT_TEXTS[Alert(name)] if name in set(Alert) else _UNKNOWN
            found.append(ActiveAlert(name, of, since, meaning, advice, portal_id, fields))
    return tuple(sorted(found, key=lambda alert: (alert.since, alert.name)))
