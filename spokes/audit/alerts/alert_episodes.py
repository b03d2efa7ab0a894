"""Which alerts are active, for all processes. Each change is logged, audited and queued for the webhook, once.

Active alerts are fields of a Redis hash. An outage becomes one only after its alert's hold-down; until then it is a
field of another hash, which any process reports when it is due. Messages for ALERT_WEBHOOK_URL wait in a Redis list
until a worker has delivered them (`spokes.audit.alerts.alert_webhook`). One script changes hashes, list and audit
stream together.
"""

import math
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.core.clock import now_ms
from spokes.core.redis.keys import ALERT_OUTBOX, ALERTS_ACTIVE, ALERTS_HELD, AUDIT_STREAM
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from spokes.core.telemetry.setup import log_alert

_MAX_MESSAGES: Final = 200  # in the outbox; beyond it the oldest are dropped
_OUTBOX_TTL_S: Final = 86_400
_REPEAT_AFTER_S: Final = 600  # a repeated problem is not queued again within this time
_MEMORY_MS: Final = 600_000  # a short problem that returns within this time continues: one that flutters is reported
REPORT_HELD_EVERY_S: Final = 2.0
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
        at_once: bool = False,
        **fields: object,
    ) -> bool:
        """Set whether an alert is active; only a change is reported. Return False during the alert's hold-down.

        An alert with a hold-down begins when the problem has lasted that long, whether it is set again or not. A
        problem that ends before is not reported at all.

        Args:
            is_active: whether the problem exists now.
            subject: distinguishes episodes of the same alert, such as the fingerprint of a secret.
            level: of the log line and the Sentry message that start an episode.
            portal_id: the portal concerned, 0 for all portals.
            at_once: begin without a hold-down.
            fields: counts and names, never values.

        Raises:
            RedisError, OSError: Redis does not answer; nothing was reported.
        """
        hold_down_s = 0.0 if at_once else HOLD_DOWN_S.get(alert, 0.0)
        problem = _Problem(alert, f"{alert}:{subject}" if subject else alert.value, level, portal_id, fields)
        reply = await self._set_problem("began" if is_active else "ended", problem, hold_down_s)
        return reply != _IN_HOLD_DOWN

    async def report_held(self) -> None:
        """Report the problems whose hold-down is over, and forget those that ended long ago.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        stored: dict[bytes, bytes] = await self._redis.hgetall(ALERTS_HELD)  # type: ignore[misc]  # redis-py types one class for sync and async
        for name, held_json in stored.items():
            held = _parse_held(name.decode(errors="replace"), held_json)
            if held is None or now_ms() - held.ended > _MEMORY_MS:
                await self._redis.hdel(ALERTS_HELD, name)  # type: ignore[misc,arg-type]  # as above
            elif held.ended == math.inf:
                await self._set_problem("due", held.problem, HOLD_DOWN_S.get(held.problem.alert, 0.0))

    async def _set_problem(self, state: str, problem: "_Problem", hold_down_s: float) -> int:
        """Report a change of a problem's state if it is one; return the script's reply."""
        is_active = state != "ended"
        alert, name, level, portal_id, fields = problem
        details = {"portal_id": portal_id, **fields} if portal_id else fields
        action = Action.ALERT_BEGAN if is_active else Action.ALERT_ENDED
        record = AuditRecord(action=action, portal_id=portal_id, reason=name, detail=fields)
        report = orjson.dumps(list(problem)).decode()
        reply = await self._change_state(state, alert, name, details, record, hold_down_s=hold_down_s, report=report)
        if reply > 0 and is_active:
            log_alert(alert, level=level, **details)
        elif reply > 0:
            log_alert(f"{alert}_over", level="info", **details)
        return reply

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
        self, state: str, alert: Alert, name: str, fields: dict[str, object], record: AuditRecord | None,
        *, hold_down_s: float = 0.0, report: str = "",
    ) -> int:  # fmt: skip
        """Change active alerts, audit stream and outbox in one step; return the script's reply."""
        at = now_ms()
        details = orjson.dumps({"since": at - int(hold_down_s * 1000), **fields})
        message_state = "began" if state == "due" else state
        message = orjson.dumps({"alert": alert, "of": name, "state": message_state, "at": at, "fields": fields})
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
        args += (int(hold_down_s * 1000), at, report, _MEMORY_MS)
        return int(await self._script(keys=[ALERTS_ACTIVE, AUDIT_STREAM, ALERT_OUTBOX, ALERTS_HELD], args=args))


class _Problem(NamedTuple):
    """What a report contains, besides its state."""

    alert: Alert
    name: str
    level: str
    portal_id: int
    fields: dict[str, object]


class _HeldProblem(NamedTuple):
    """A problem that is not reported yet, and the epoch ms at which it ended, infinite while it exists."""

    problem: _Problem
    ended: float


def _parse_held(name: str, held_json: bytes) -> _HeldProblem | None:
    """Return a held problem; None if it is unreadable, or the alert of another version."""
    try:
        held = orjson.loads(held_json)
        alert, _, level, portal_id, fields = orjson.loads(held["report"])
        return _HeldProblem(
            _Problem(Alert(alert), name, str(level), int(portal_id), dict(fields)), float(held.get("ended", math.inf))
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
