"""Active alerts with meaning and advice. Alerts without a portal are shown only to actors who may see all portals."""

from dataclasses import dataclass
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core.redis.keys import ALERTS_ACTIVE
from spokes.core.telemetry.alerts import ALERT_TEXTS, Alert

_UNKNOWN: Final = ("An alert of another version.", "See the log of the workers.")


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An active alert; `subject` is what it concerns, such as a handler, `since` is epoch ms."""

    name: str
    subject: str
    since: int
    meaning: str
    advice: str
    portal_id: int
    fields: dict[str, object]


async def active_alerts(redis: Redis, portals: Portals) -> tuple[ActiveAlert, ...]:
    """Return the active alerts, oldest first.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    payloads: dict[bytes, bytes] = await redis.hgetall(ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async
    alerts = await read_items(redis, "active_alert", payloads.items(), _read_alert)
    visible = (alert for alert in alerts if can_see(portals, alert.portal_id))
    return tuple(sorted(visible, key=lambda alert: (alert.since, alert.name)))


def _read_alert(item: tuple[bytes, bytes]) -> ActiveAlert:
    name, _, subject = item[0].decode().partition(":")
    fields = orjson.loads(item[1])
    since, portal_id = int(fields.pop("since", 0)), int(fields.pop("portal_id", 0))
    meaning, advice = ALERT_TEXTS[Alert(name)] if name in set(Alert) else _UNKNOWN
    return ActiveAlert(name, subject, since, meaning, advice, portal_id, fields)
