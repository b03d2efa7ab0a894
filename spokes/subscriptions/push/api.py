"""HubSpot's API for the subscriptions of a legacy public app: settings, subscriptions, batch activation.

Source: HubSpot's public API specifications, "Webhooks". The developer API key is a query parameter there, so no URL of
ours is logged, and no error has one.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
import orjson

from spokes.core.json_reading.json_fields import read_bigint, read_flag, read_id, read_text
from spokes.core.settings import Settings
from spokes.subscriptions.refusals import SubscriptionOutcomeUnknown, SubscriptionRefused
from spokes.subscriptions.subscribed_events import SubscribedEvent, api_fields, event_of_api_fields

_NUMBERED: Final = "v3"
_PATH_OF_MARCH_2026: Final = "/webhooks/2026-03"  # only this date version is there
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_BATCH: Final = 100
_ATTEMPTS: Final = 4
_BACKOFF_S, _RATE_LIMIT_S, _LONGEST_WAIT_S = 0.5, 10.0, 60.0
_MAX_MESSAGE: Final = 300  # characters of HubSpot's message


@dataclass(frozen=True, slots=True)
class PushSettings:
    """Where HubSpot sends an app's events, and how many requests at a time."""

    target_url: str
    max_concurrent_requests: int


@dataclass(frozen=True, slots=True)
class RemoteSubscription:
    """A subscription as HubSpot has it; `event` is None if this version does not know its form."""

    id: int
    event: SubscribedEvent | None
    is_active: bool
    created_at: int  # epoch ms, 0 if HubSpot does not say

    @property
    def name(self) -> str:
        """The event, or the id of a subscription of unknown form."""
        return str(self.event) if self.event else f"subscription {self.id}"


def push_path(version: str) -> str:
    """Return the path of the API in a version; the id of an app follows."""
    if version == _NUMBERED:
        return "/webhooks/v3"
    return _PATH_OF_MARCH_2026 if _PATH_OF_MARCH_2026.endswith(version) else f"/app-webhooks/{version}"


class PushApi:
    """Calls for one app; an async context manager."""

    def __init__(self, settings: Settings) -> None:
        version = settings.hubspot_api_version
        self._base = f"{settings.hubspot_api_url}{push_path(version)}/{settings.hubspot_app_id}"
        self._key = settings.hubspot_developer_api_key
        self._version = version

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def read_settings(self) -> PushSettings | None:
        """Return the settings, None if the app has none.

        Raises:
            SubscriptionRefused, SubscriptionOutcomeUnknown: HubSpot does not answer the call.
        """
        try:
            body = await self._call("GET", "/settings")
        except SubscriptionRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        throttling = body.get("throttling")
        limit = throttling.get("maxConcurrentRequests") if isinstance(throttling, dict) else None
        return PushSettings(read_text(body.get("targetUrl")) or "", read_id(limit) or 0)

    async def write_settings(self, settings: PushSettings) -> None:
        """Replace the settings. Raises as `read_settings`."""
        throttling = {"maxConcurrentRequests": settings.max_concurrent_requests}
        await self._call("PUT", "/settings", {"targetUrl": settings.target_url, "throttling": throttling})

    async def list_subscriptions(self) -> list[RemoteSubscription]:
        """Return all subscriptions. Raises as `read_settings`."""
        body = await self._call("GET", "/subscriptions")
        results = body.get("results")
        if not isinstance(results, list):
            raise SubscriptionOutcomeUnknown("HubSpot's list of subscriptions cannot be read. Run the command again.")
        return [subscription for each in results if (subscription := _subscription(each))]

    async def create(self, event: SubscribedEvent) -> RemoteSubscription:
        """Create an active subscription, in one attempt unless HubSpot limits calls. Raises as `read_settings`."""
        body = await self._call("POST", "/subscriptions", {**api_fields(event), "active": True}, may_repeat=False)
        if (subscription := _subscription(body)) is None:
            raise SubscriptionOutcomeUnknown(f"HubSpot's answer to the subscription {event} cannot be read.")
        return subscription

    async def delete(self, subscription_id: int) -> None:
        """Delete a subscription; one that is gone already is no error. Raises as `read_settings`."""
        try:
            await self._call("DELETE", f"/subscriptions/{subscription_id}")
        except SubscriptionRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def activate(self, subscription_ids: Sequence[int]) -> frozenset[int]:
        """Activate subscriptions; return the ids that HubSpot confirms. Raises as `read_settings`."""
        confirmed: set[int] = set()
        for start in range(0, len(subscription_ids), _BATCH):
            inputs = [{"id": id_, "active": True} for id_ in subscription_ids[start : start + _BATCH]]
            body = await self._call("POST", "/subscriptions/batch/update", {"inputs": inputs})
            results = body.get("results")
            updated = [_subscription(each) for each in results] if isinstance(results, list) else []
            confirmed |= {subscription.id for subscription in updated if subscription and subscription.is_active}
        return frozenset(confirmed)

    async def _call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, may_repeat: bool = True
    ) -> dict[str, Any]:
        """Return the JSON object of the response; wait while HubSpot limits calls."""
        failure = ""
        for wait_s in (*_waits(), None):
            try:
                status, retry_after_s, content = await self._send(method, path, body)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                status, retry_after_s, content = 0, 0.0, {}
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return content
            failure = str(status or "no connection")
            if status == HTTPStatus.TOO_MANY_REQUESTS and wait_s is not None:
                await asyncio.sleep(retry_after_s or _RATE_LIMIT_S)
            elif HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise self._refusal(f"{method} {path}", status, content)
            elif wait_s is None or not may_repeat:
                break
            else:
                await asyncio.sleep(wait_s)
        raise SubscriptionOutcomeUnknown(
            f"HubSpot does not answer {method} {path} ({failure}). Run the command again: it continues from there."
        )

    async def _send(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> tuple[int, float, dict[str, Any]]:
        async with self._session.request(
            method,
            f"{self._base}{path}",
            params={"hapikey": self._key.get_secret_value()},
            data=None if body is None else orjson.dumps(body),
            headers={"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "spokes"},
            allow_redirects=False,
        ) as response:
            raw = await response.content.read(_MAX_BODY_BYTES + 1)
            while len(raw) <= _MAX_BODY_BYTES and (more := await response.content.read(_MAX_BODY_BYTES)):
                raw += more
            content, status = _json_object(raw), response.status
            if content is None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                status = 0  # whatever answered is not HubSpot
            return status, _retry_after_s(response.headers), content or {}

    def _refusal(self, call: str, status: int, body: Mapping[str, object]) -> SubscriptionRefused:
        """Return the error with a sentence for a refusal, which never holds the key."""
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            sentence = (
                f"HubSpot refuses the developer API key ({status}). Set HUBSPOT_DEVELOPER_API_KEY to the key of the "
                "developer account that owns the app HUBSPOT_APP_ID. Only legacy public apps have this API."
            )
        elif status == HTTPStatus.NOT_FOUND:
            sentence = (
                "HubSpot has no such app or subscription (404). Check HUBSPOT_APP_ID, and HUBSPOT_API_VERSION "
                f"({self._version})."
            )
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            sentence = "HubSpot limits calls (429). Run the command again later: it continues where it stopped."
        else:
            text = str(body.get("message") or "no reason").replace(self._key.get_secret_value(), "***")
            message = "".join(character for character in text if character.isprintable())[:_MAX_MESSAGE]
            sentence = f"HubSpot refused {call} ({status}): {message}"
        return SubscriptionRefused(sentence, status)


def _waits() -> Iterator[float]:
    return (_BACKOFF_S * 2**attempt for attempt in range(_ATTEMPTS - 1))


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the wait of a Retry-After header in seconds, 0 without one."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.01), _LONGEST_WAIT_S) if seconds == seconds else 0.0  # noqa: PLR0124 - not for NaN


def _json_object(raw: bytes) -> dict[str, Any] | None:
    """Return a JSON object, empty for an empty body; None for anything else."""
    try:
        body = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _subscription(fields: object) -> RemoteSubscription | None:
    """Return a subscription, None if it has no id."""
    if not isinstance(fields, dict):
        return None
    id_ = read_id(fields.get("id"))
    if id_ is None:
        return None
    is_active = read_flag(fields.get("active")) is True
    return RemoteSubscription(id_, event_of_api_fields(fields), is_active, _epoch_ms(fields.get("createdAt")))


def _epoch_ms(value: object) -> int:
    """Return a time as epoch ms, 0 if it cannot be read; HubSpot writes ISO 8601, older versions a number."""
    if (at_ms := read_bigint(value)) is not None:
        return at_ms
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return 0
    if at is None:
        return 0
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
