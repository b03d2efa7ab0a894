"""Which alerts are active, for all processes. Each change is logged, audited and queued for the webhook, once.

Active alerts are fields of a Redis hash. Messages for ALERT_WEBHOOK_URL wait in a Redis list until a worker has
delivered them (spokes/audit/alert_webhook.py). One script changes hash, list and audit stream together.
"""

from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.core.clock import now_ms
from spokes.core.redis.keys import ALERT_OUTBOX, ALERTS_ACTIVE, AUDIT_STREAM
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from spokes.core.telemetry.setup import log_alert

_MAX_MESSAGES: Final = 200  # in the outbox; beyond it the oldest are dropped
_OUTBOX_TTL_S: Final = 86_400
_REPEAT_AFTER_S: Final = 600  # a repeated problem is not queued again within this time
_LONGEST_GAP_S: Final = 60  # between two reports of a problem; after a longer one, the hold-down begins again
_IN_HOLD_DOWN: Final = -1  # the script's reply
_SCRIPT: Final = read_script(__file__, "alert_episodes.lua")
assert ENTRY_FIELD == b"r"  # noqa: S101 - the script contains it literally


class AlertEpisodes:
    """The active alerts, shared by all processes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)

    async def set_state(
        self,
        alert: Alert,
        *,
        is_active: bool,
        subject: object = "",
        level: str = "error",
        portal_id: int = 0,
        **fields: object,
    ) -> bool:
        """Set whether an alert is active; only a change is reported. Return False during the alert's hold-down.

        An alert with a hold-down begins only if the problem is set as active again after it. A problem that ends
        before is not reported at all.

        Args:
            is_active: whether the problem exists now.
            subject: distinguishes episodes of the same alert, such as the fingerprint of a secret.
            level: of the log line and the Sentry message that start an episode.
            portal_id: the portal concerned, 0 for all portals.
            fields: counts and names, never values.

        Raises:
            RedisError, OSError: Redis does not answer; nothing was reported.
        """
        name = f"{alert}:{subject}" if subject else alert.value
        details = {"portal_id": portal_id, **fields} if portal_id else fields
        action = Action.ALERT_BEGAN if is_active else Action.ALERT_ENDED
        record = AuditRecord(action=action, portal_id=portal_id, reason=name, detail=fields)
        change = await self._change_state("began" if is_active else "ended", alert, name, details, record)
        if change <= 0:
            return change != _IN_HOLD_DOWN
        if is_active:
            log_alert(alert, level=level, **details)
        else:
            log_alert(f"{alert}_over", level="info", **details)
        return True

    async def report_once(self, alert: Alert, *, level: str = "error", **fields: object) -> None:
        """Report a problem that has no duration: to log and Sentry each time, by webhook once in ten minutes.

        Raises:
            RedisError, OSError: Redis does not answer; log and Sentry have the report.
        """
        log_alert(alert, level=level, **fields)
        await self.enqueue_message(alert, **fields)

    async def enqueue_message(self, alert: Alert, **fields: object) -> None:
        """Queue the webhook message of a problem already reported to log and Sentry, once in ten minutes.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self._change_state("happened", alert, alert.value, fields, None)

    async def active(self, prefix: str) -> list[str]:
        """Return the names of the active alerts that start with `prefix`."""
        names = await self._redis.hkeys(ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async
        return [name for name in (raw.decode(errors="replace") for raw in names) if name.startswith(prefix)]

    async def _change_state(
        self, state: str, alert: Alert, name: str, fields: dict[str, object], record: AuditRecord | None
    ) -> int:
        """Change active alerts, audit stream and outbox in one step; return the script's reply."""
        at = now_ms()
        details = orjson.dumps({"since": at, **fields})
        message = orjson.dumps({"alert": alert, "of": name, "state": state, "at": at, "fields": fields})
        payload = encode(record) if record else b""
        args: tuple[str | bytes | int, ...] = (
            state,
            name,
            details,
            payload,
            message,
            _MAX_MESSAGES,
            _REPEAT_AFTER_S,
            _OUTBOX_TTL_S,
        )
        args += (int(HOLD_DOWN_S.get(alert, 0) * 1000), _LONGEST_GAP_S * 1000)
        return int(await self._script(keys=[ALERTS_ACTIVE, AUDIT_STREAM, ALERT_OUTBOX], args=args))
