"""Deliver queued alerts to ALERT_WEBHOOK_URL: signed, in order, retried until accepted, in a task of its own.

A message is JSON with a `text` field that Slack and compatible tools display. Its signature is `v1=` and the hex
HMAC-SHA256 of `timestamp.body`, keyed with ALERT_WEBHOOK_SECRET; retries keep the message id. A message that the
receiver rejects (4xx), or that was not accepted within a day, is dropped with a line in the log.
"""

import asyncio
import contextlib
import hashlib
import hmac
import random
import secrets
import time
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.bad_items import read_items
from spokes.core.clock import now_ms
from spokes.core.masking import Mask
from spokes.core.redis.keys import ALERT_OUTBOX, ALERT_OUTBOX_LOCK
from spokes.core.redis.leader_lock import acquire_lease
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import ALERT_TEXTS, Alert

SIGNATURE_HEADER: Final = "Spokes-Signature"
TIMESTAMP_HEADER: Final = "Spokes-Timestamp"
MESSAGE_ID_HEADER: Final = "Spokes-Message-Id"
TEST_ALERT: Final = "test"
_POLL_S: Final = 2.0
_TIMEOUT_S: Final = 10.0
_RETRY_WAITS_S: Final = (1, 5, 20, 60, 300)  # upper bound after each failure in a row; the last repeats
_EXPIRES_AFTER_MS: Final = 86_400_000
_LOCK_TTL_S: Final = 30  # longer than one message takes; after a worker dies, the others wait this long
_RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
_TEST_TEXTS: Final = "This is a test.", "No action is needed."
_UNKNOWN: Final = "Another version of Spokes reports it.", "Its documentation explains the alert."
log = structlog.get_logger()


class AlertWebhook:
    """Delivers the messages of the outbox, one worker at a time."""

    def __init__(self, settings: Settings, redis: Redis, *, retry_waits_s: tuple[float, ...] = _RETRY_WAITS_S) -> None:
        self._url = settings.alert_webhook_url.get_secret_value()
        self._secret = settings.alert_webhook_secret.get_secret_value()
        self._environment = settings.sentry_environment
        self._mask = Mask(settings.secret_values)
        self._redis = redis
        self._retry_waits_s = retry_waits_s
        self._failures = 0

    async def run(self, outage: RedisOutage, task: str) -> None:
        """Deliver messages until cancelled; return at once if no URL is set. `task` is for `outage`.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if not self._url:
            return
        async with _session() as session:
            while True:
                token = secrets.token_hex(8)
                if await acquire_lease(self._redis, ALERT_OUTBOX_LOCK, token, lease_ms=_LOCK_TTL_S * 1000):
                    try:
                        await self._send_all(session)
                    finally:
                        with contextlib.suppress(RedisError, OSError):  # the lock expires
                            await self._redis.delete(ALERT_OUTBOX_LOCK)
                outage.mark_available(task)
                await asyncio.sleep(self._next_wait_s())

    async def send_test(self) -> int:
        """Send a test message once; return the status of the response, 0 if there was none."""
        at = now_ms()
        content = {"alert": TEST_ALERT, "of": TEST_ALERT, "state": "happened", "at": at, "fields": {}}
        async with _session() as session:
            return await self._post(session, self._request_body(orjson.dumps(content))[1])

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        """Send the messages in order, until the outbox is empty or one has to be retried."""
        while message := await self._redis.lindex(ALERT_OUTBOX, 0):  # type: ignore[misc]  # redis-py types one class for sync and async
            readable = await read_items(self._redis, "alert_message", [message], self._request_body)
            if readable and not await self._deliver(session, *readable[0]):
                self._failures += 1
                return
            self._failures = 0
            await self._redis.lrem(ALERT_OUTBOX, 1, message)  # type: ignore[misc]  # as above
            await self._redis.expire(ALERT_OUTBOX_LOCK, _LOCK_TTL_S)

    async def _deliver(self, session: aiohttp.ClientSession, content: dict[str, Any], body: bytes) -> bool:
        """Send a message; return False if it has to be retried."""
        status = await self._post(session, body)
        if 200 <= status < 300:  # noqa: PLR2004 - HTTP's own numbers
            return True
        is_rejected = 400 <= status < 500 and status not in _RETRYABLE_STATUSES  # noqa: PLR2004 - as above
        is_expired = now_ms() - content["at"] > _EXPIRES_AFTER_MS
        if is_rejected or is_expired:
            log.warning("alert_not_sent", alert=content["of"], state=content["state"], status=status)
        return is_rejected or is_expired

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> int:
        """Return the status of the response, 0 if there was none."""
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "spokes",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._secret, timestamp, body),
            MESSAGE_ID_HEADER: orjson.loads(body)["id"],
        }
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0

    def _request_body(self, message: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the content of a message, and the body that is sent for it."""
        content = orjson.loads(message)
        fields = self._mask.fields(content["fields"])
        body = orjson.dumps(
            {
                "text": message_text(content["alert"], content["state"], fields, self._environment),
                "id": hashlib.sha256(message).hexdigest()[:24],
                "alert": content["alert"],
                "state": content["state"],
                "at": datetime.fromtimestamp(content["at"] / 1000, UTC).isoformat(timespec="milliseconds"),
                "environment": self._environment,
                "fields": fields,
            }
        )
        return content, body

    def _next_wait_s(self) -> float:
        if not self._failures:
            return _POLL_S
        longest = self._retry_waits_s[min(self._failures, len(self._retry_waits_s)) - 1]
        return random.uniform(longest / 2, longest)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar())


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of the header `Spokes-Signature`."""
    return "v1=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hex()


def message_text(alert: str, state: str, fields: dict[str, object], environment: str) -> str:
    """Return the message as a sentence, with the three characters escaped that Slack reads as markup."""
    is_test = alert == TEST_ALERT
    meaning, advice = _TEST_TEXTS if is_test else ALERT_TEXTS[Alert(alert)] if alert in set(Alert) else _UNKNOWN
    details = ", ".join(f"{name} {value}" for name, value in fields.items())
    has_ended = state == "ended"
    text = f"Spokes ({environment}): {alert} {'is over' if has_ended else 'began' if state == 'began' else 'happened'}"
    text += f" ({details})." if details else "."
    text += "" if has_ended else f" {meaning} {advice}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
