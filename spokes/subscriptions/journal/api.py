"""HubSpot's API for subscriptions to the journal, with a token of the app itself. Source: its API specification."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
import orjson

from spokes.core.json_reading.json_fields import read_id
from spokes.core.settings import Settings
from spokes.crm.transport.errors.error_mapping import parse_retry_after
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.oauth_errors import OAuthError, OAuthUnavailable
from spokes.subscriptions.journal.contents import Content, Subject, content_of, is_restricted, request_body, subject_of
from spokes.subscriptions.journal.filters import Filter
from spokes.subscriptions.refusals import SubscriptionOutcomeUnknown, SubscriptionRefused

_VERSIONS: Final = ("2026-03", "2026-09")  # HubSpot describes these; others have the newest one's paths
_SCOPES: Final = ("developer.webhooks_journal.subscriptions.read", "developer.webhooks_journal.subscriptions.write")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_WAITS_S: Final = (0.5, 1.0, 2.0)
_RATE_LIMIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0
_MAX_MESSAGE: Final = 300  # characters of HubSpot's message


@dataclass(frozen=True, slots=True)
class RemoteJournalSubscription:
    """A subscription as HubSpot has it.

    `subject` is None for a type that we never make. `is_restricted`: it is for some objects only. `has_overrides`: it
    has rules for single actions, which a call of ours would remove.
    """

    id: int
    subject: Subject | None
    portal_id: int
    content: Content
    is_restricted: bool = False
    has_overrides: bool = False


class JournalApi:
    """Calls for one app; an async context manager."""

    def __init__(self, settings: Settings, scopes: Sequence[str] = ()) -> None:
        """`scopes` are those that reading the objects of the subscriptions needs."""
        version = settings.hubspot_api_version
        self._base = f"{settings.hubspot_api_url.rstrip('/')}/webhooks-journal/subscriptions/{journal_version(version)}"
        self._oauth = OAuthClient(
            client_id=settings.hubspot_client_id,
            client_secret=settings.hubspot_client_secret[0],
            api_url=settings.hubspot_api_url,
            api_version=journal_version(version),
            timeout_s=settings.hubspot_timeout_s,
        )
        self._scopes = (*_SCOPES, *scopes)
        self._token = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._oauth.close()

    async def list_subscriptions(self) -> list[RemoteJournalSubscription]:
        """Return all subscriptions of the app.

        Raises:
            SubscriptionRefused, SubscriptionOutcomeUnknown: HubSpot does not answer the call.
        """
        body = await self._call("GET", "")
        results = body.get("results") if isinstance(body, dict) else None
        if not isinstance(results, list):
            raise SubscriptionOutcomeUnknown("HubSpot's list of subscriptions cannot be read. Run the command again.")
        return [remote for each in results if (remote := _remote(each))]

    async def put(self, subject: Subject, content: Content) -> RemoteJournalSubscription | None:
        """Create or replace a subscription; None if HubSpot says that there is one. Raises as `list_subscriptions`."""
        sent = request_body(subject, content)
        try:
            body = await self._call("POST", "", sent)
        except SubscriptionRefused as error:
            if error.status == HTTPStatus.CONFLICT:
                return None
            raise
        # Fields that an answer leaves out are those that were sent.
        remote = _remote({**sent, **body}) if isinstance(body, dict) else None
        if remote is None:
            raise SubscriptionOutcomeUnknown(f"HubSpot's answer to the subscription {subject} cannot be read.")
        return remote

    async def delete(self, subscription_id: int) -> None:
        """Delete a subscription; one that is gone already is no error. Raises as `list_subscriptions`."""
        await self._delete(f"/{subscription_id}")

    async def delete_portal(self, portal_id: int) -> None:
        """Delete all subscriptions of a portal. Raises as `list_subscriptions`."""
        await self._delete(f"/portals/{portal_id}")

    async def filters(self, subscription_id: int) -> dict[int, Filter]:
        """Return the filters of a subscription by id, none of one that is gone. Raises as `list_subscriptions`."""
        try:
            body = await self._call("GET", f"/filters/subscription/{subscription_id}")
        except SubscriptionRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return {}
            raise
        rows = body.get("results") if isinstance(body, dict) else body
        filters: dict[int, Filter] = {}
        for row in rows if isinstance(rows, list) else ():
            id_ = read_id(row.get("id")) if isinstance(row, dict) else None
            if id_ is not None and isinstance(row.get("filter"), dict):
                filters[id_] = row["filter"]
        return filters

    async def create_filter(self, subscription_id: int, filter_: Filter) -> int:
        """Create a filter; return its id. Raises as `list_subscriptions`."""
        body = await self._call("POST", "/filters", {"subscriptionId": subscription_id, "filter": filter_})
        id_ = read_id(body.get("filterId")) if isinstance(body, dict) else None
        if id_ is None:
            raise SubscriptionOutcomeUnknown("HubSpot's answer to a filter cannot be read.")
        return id_

    async def delete_filter(self, filter_id: int) -> None:
        """Delete a filter; one that is gone already is no error. Raises as `list_subscriptions`."""
        await self._delete(f"/filters/{filter_id}")

    async def _delete(self, path: str) -> None:
        try:
            await self._call("DELETE", path)
        except SubscriptionRefused as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Return the JSON of the response; wait while HubSpot limits calls. Every call may be repeated."""
        failure, has_new_token = "", False
        for wait_s in (*_WAITS_S, None):
            status, retry_after_s, content = await self._send(method, path, body)
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return content
            failure = str(status or "no connection")
            if status == HTTPStatus.UNAUTHORIZED and not has_new_token and wait_s is not None:
                self._token, has_new_token = "", True  # it lives for half an hour
            elif status == HTTPStatus.TOO_MANY_REQUESTS and wait_s is not None:
                await asyncio.sleep(min(retry_after_s or _RATE_LIMIT_S, _LONGEST_WAIT_S))
            elif HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise self._refusal(f"{method} {path or '/'}", status, content)
            elif wait_s is None:
                break
            else:
                await asyncio.sleep(max(wait_s, min(retry_after_s, _LONGEST_WAIT_S)))
        raise SubscriptionOutcomeUnknown(
            f"HubSpot does not answer {method} {path or '/'} ({failure}). Run the command again: it goes on from there."
        )

    async def _send(self, method: str, path: str, body: Mapping[str, object] | None) -> tuple[int, float, Any]:
        try:
            token = await self._access_token()
        except OAuthUnavailable as error:
            return 0, error.retry_after_s, {}
        try:
            async with self._session.request(
                method,
                f"{self._base}{path}",
                data=None if body is None else orjson.dumps(body),
                headers={
                    "Accept": "application/json",
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                    "User-Agent": "spokes",
                },
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(_MAX_BODY_BYTES)
                while len(raw) < _MAX_BODY_BYTES and (more := await response.content.read(_MAX_BODY_BYTES)):
                    raw += more
                wait_s = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return 0, 0.0, {}
        try:
            return status, wait_s, orjson.loads(raw) if raw.strip() else {}
        except orjson.JSONDecodeError:
            return status if status >= HTTPStatus.BAD_REQUEST else 0, wait_s, {}

    async def _access_token(self) -> str:
        """Return the app's token.

        Raises:
            SubscriptionRefused: HubSpot refuses the app.
            OAuthUnavailable: HubSpot cannot answer now.
        """
        if not self._token:
            try:
                self._token = (await self._oauth.app_token(self._scopes)).access_token.get_secret_value()
            except OAuthUnavailable:
                raise
            except OAuthError as error:
                raise SubscriptionRefused(
                    f"HubSpot gives the app no token ({error.code}). Compare HUBSPOT_CLIENT_ID and "
                    "HUBSPOT_CLIENT_SECRET with the Auth page of your HubSpot app.",
                    HTTPStatus.UNAUTHORIZED,
                ) from None
        return self._token

    def _refusal(self, call: str, status: int, body: object) -> SubscriptionRefused:
        message = str(body.get("message") or "no reason") if isinstance(body, dict) else "no reason"
        text = "".join(character for character in message if character.isprintable())[:_MAX_MESSAGE]
        if self._token:
            text = text.replace(self._token, "***")
        return SubscriptionRefused(f"HubSpot refused {call} ({status}): {text}", status)


def journal_version(version: str) -> str:
    """Return the version of the journal's paths: numbered versions have no such API."""
    return version if version[:1].isdigit() else _VERSIONS[-1]


def _remote(fields: object) -> RemoteJournalSubscription | None:
    """Return a subscription, None if it has no id or is deleted."""
    id_ = read_id(fields.get("id")) if isinstance(fields, dict) else None
    if id_ is None or not isinstance(fields, dict) or fields.get("deletedAt"):
        return None
    portal_id = read_id(fields.get("portalId")) or 0
    has_overrides = bool(fields.get("actionOverrides"))
    return RemoteJournalSubscription(
        id_, subject_of(fields), portal_id, content_of(fields), is_restricted(fields), has_overrides
    )
