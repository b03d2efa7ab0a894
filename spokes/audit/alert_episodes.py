"""Tell operators of alerts, once for each episode and once when it ends. Rule: one step tells audit and webhook alike.

Which alerts stand is kept in Redis for all processes; what is to be sent to ALERT_WEBHOOK_URL waits there until a
worker has sent it (spokes/audit/alert_webhook.py).
"""

from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.core import clock
from spokes.core.delivery import ALERTS_ACTIVE, AUDIT_STREAM
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert as tell_log_and_sentry

OUTBOX: Final = "spokes:alerts:outbox"  # list of what is to be sent, the oldest first
_MAX_MESSAGES: Final = 200  # messages that wait; beyond it the oldest are given up
_OUTBOX_TTL_S: Final = 86_400
_REPEAT_AFTER_S: Final = 600  # something that happens again within this is not sent again
_CHANGE: Final = """
local changed
if ARGV[1] == 'began' then
  changed = redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
elseif ARGV[1] == 'ended' then
  changed = redis.call('HDEL', KEYS[1], ARGV[2])
else
  changed = redis.call('SET', KEYS[1] .. ':told:' .. ARGV[2], '', 'NX', 'EX', ARGV[7]) and 1 or 0
end
if changed == 0 then return 0 end
if ARGV[4] ~= '' then redis.call('XADD', KEYS[2], '*', 'r', ARGV[4]) end
redis.call('RPUSH', KEYS[3], ARGV[5])
redis.call('LTRIM', KEYS[3], -tonumber(ARGV[6]), -1)
redis.call('EXPIRE', KEYS[3], ARGV[8])
return 1
"""
assert ENTRY_FIELD == b"r"  # noqa: S101 - the script spells it out


class AlertEpisodes:
    """The alerts that stand, for all processes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_CHANGE)

    async def set_state(
        self,
        alert: Alert,
        *,
        is_active: bool,
        subject: object = "",
        level: str = "error",
        portal_id: int = 0,
        **fields: object,
    ) -> None:
        """Say how it stands with an alert; only a change is told.

        Args:
            stands: whether what it warns of is so now.
            of: what tells two episodes of one alert apart, such as the fingerprint of a secret.
            level: of the log line and the message that begin the episode.
            portal_id: whose it is, 0 for everybody's.
            fields: counts and names, never values.

        Raises:
            RedisError, OSError: Redis does not answer; nothing was told.
        """
        name = f"{alert}:{subject}" if subject else alert.value
        given = {"portal_id": portal_id, **fields} if portal_id else fields
        action = Action.ALERT_BEGAN if is_active else Action.ALERT_ENDED
        record = AuditRecord(action=action, portal_id=portal_id, reason=name, detail=fields)
        if not await self._change_state("began" if is_active else "ended", alert, name, given, record):
            return
        if is_active:
            tell_log_and_sentry(alert, level=level, **given)
        else:
            tell_log_and_sentry(f"{alert}_over", level="info", **given)

    async def report_once(self, alert: Alert, *, level: str = "error", **fields: object) -> None:
        """Tell of something that does not last: to the log and Sentry each time, by webhook once in a while.

        Raises:
            RedisError, OSError: Redis does not answer; log and Sentry were told.
        """
        tell_log_and_sentry(alert, level=level, **fields)
        await self.enqueue_message(alert, **fields)

    async def enqueue_message(self, alert: Alert, **fields: object) -> None:
        """Send what log and Sentry were told already, unless the same was sent of late.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self._change_state("happened", alert, alert.value, fields, None)

    async def active(self, prefix: str) -> list[str]:
        """Return the alerts that stand and begin with `prefix`."""
        names = await self._redis.hkeys(ALERTS_ACTIVE)  # type: ignore[misc]  # redis-py types one class for sync and async
        return [name.decode() for name in names if name.decode().startswith(prefix)]

    async def _change_state(
        self, state: str, alert: Alert, name: str, fields: dict[str, object], record: AuditRecord | None
    ) -> bool:
        """Change what stands, and with it, in one step, audit and outbox; return whether it was a change."""
        at = clock.now_ms()
        stands = orjson.dumps({"since": at, **fields})
        message = orjson.dumps({"alert": alert, "of": name, "state": state, "at": at, "fields": fields})
        told = encode(record) if record else b""
        words = (state, name, stands, told, message, _MAX_MESSAGES, _REPEAT_AFTER_S, _OUTBOX_TTL_S)
        return bool(await self._script(keys=[ALERTS_ACTIVE, AUDIT_STREAM, OUTBOX], args=words))
