"""Disconnect a portal: uninstall the app at HubSpot, destroy its tokens, and mark the portal as uninstalled.

Each step may be repeated: after a crash or an outage, disconnecting again completes it.
"""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.core import clock
from spokes.core.errors import HttpProblem, SecretUnreadable
from spokes.core.settings import Settings
from spokes.intake.portal_events import PORTAL_UNINSTALLED, queue_portal_event
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.oauth_errors import OAuthError, OAuthUnavailable, PortalRefused, PortalRevoked
from spokes.portals.pending_tokens import PendingTokenStore
from spokes.portals.store import InstalledPortal, PortalState, PortalStore, StoredTokens
from spokes.portals.token_alerts import end_token_alerts
from spokes.portals.tokens import Tokens
from spokes.queue.pauses.portal_pauses import PortalPauses

DISCONNECTED: Final = "disconnected"  # the reason of the state
_MARGIN_MS: Final = 60_000  # of an access token's life that a call needs
_ATTEMPTS: Final = 3  # workers may refresh the tokens at the same time


@dataclass(frozen=True, slots=True)
class Operator:
    """Who disconnects a portal, from where, and why."""

    name: str
    reason: str = ""
    address: str = ""


async def find_connected(store: PortalStore, portal_id: int) -> InstalledPortal:
    """Return a portal that can be disconnected.

    Raises:
        HttpProblem: 404, it never installed the app; 409, it is uninstalled already.
        AuditUnavailable: the store does not answer.
    """
    portal = await store.get(portal_id)
    if portal is None:
        raise HttpProblem(404, "not_found", f"Portal {portal_id} has not installed the app. Nothing was done.")
    if portal.state is PortalState.UNINSTALLED and not portal.token_expires_at:
        raise HttpProblem(409, "already_uninstalled", f"Portal {portal_id} is uninstalled already. Nothing was done.")
    return portal


async def disconnect(
    portal_id: int, operator: Operator, *, settings: Settings, store: PortalStore, oauth: OAuthClient, redis: Redis
) -> bool:
    """Disconnect a portal; return whether HubSpot uninstalled the app now, rather than earlier.

    Raises:
        HttpProblem: 404 or 409, as `find_connected`; 502, HubSpot refuses our app or to refresh
            the portal's token; 503, HubSpot does not answer.
        AuditUnavailable: the store does not answer.
        QueueUnavailable, RedisError, OSError: Redis does not answer.
    """
    portal = await find_connected(store, portal_id)
    detail = {"state": portal.state.value, **({"address": operator.address} if operator.address else {})}
    record = AuditRecord(
        action=Action.PORTAL_UNINSTALLED, portal_id=portal_id, actor=operator.name, reason=operator.reason,
        detail=detail,
    )  # fmt: skip
    await append_now(redis, record)
    try:
        was_installed = await _uninstall(portal_id, store, oauth)
    except OAuthError as error:
        raise _still_connected(portal_id, error) from None
    at = (await store.get(portal_id) or portal).uninstalled_at(clock.now_ms())
    await queue_portal_event(PORTAL_UNINSTALLED, portal_id, occurred_at=at, settings=settings, redis=redis)
    await store.mark(portal_id, PortalState.UNINSTALLED, DISCONNECTED)
    await store.destroy_tokens(portal_id)
    await PendingTokenStore(redis, store.vault).delete(portal_id)
    await end_token_alerts(redis, portal_id)
    pauses = PortalPauses(redis)  # what waits for the end of a pause is discarded now
    await pauses.calls.end_all(portal_id)
    await pauses.resume(portal_id)
    return was_installed


def _still_connected(portal_id: int, error: OAuthError) -> HttpProblem:
    match error:
        case OAuthUnavailable():
            status, sentence = 503, "HubSpot does not answer"
        case PortalRefused():
            status, sentence = 502, f"HubSpot issues no tokens of portal {portal_id} ({error.code})"
        case _:
            status, sentence = 502, "HubSpot refuses our app"
    detail = f"{sentence}, so portal {portal_id} is still connected. Disconnect it again later."
    return HttpProblem(status, error.reason, detail, retry_after_s=60 if status == 503 else None)  # noqa: PLR2004 - as above


async def _uninstall(portal_id: int, store: PortalStore, oauth: OAuthClient) -> bool:
    """Uninstall the app at HubSpot; return False if it is not installed there any more.

    A 401 says so only for a token that was just refreshed: another may have expired, if clocks differ.
    """
    is_refresh_needed = False
    for _ in range(_ATTEMPTS):
        try:
            stored = await store.read(portal_id)
        except SecretUnreadable:
            stored = None
        if stored is None or stored.tokens is None:
            return False
        tokens, is_fresh = stored.tokens, False
        if is_refresh_needed or tokens.expires_at < clock.now_ms() + _MARGIN_MS:
            refreshed = await _refresh(stored, tokens, store, oauth)
            if refreshed is None:
                if await _has_newer_tokens(stored, store):
                    is_refresh_needed = False
                    continue
                return False
            tokens, is_fresh = refreshed, True
        try:
            await oauth.uninstall(tokens.access_token.get_secret_value())
        except PortalRevoked:
            if is_fresh:
                return False
            is_refresh_needed = True
            continue
        return True
    return False


async def _refresh(stored: StoredTokens, tokens: Tokens, store: PortalStore, oauth: OAuthClient) -> Tokens | None:
    """Return new tokens, None if HubSpot refuses to issue some."""
    try:
        refreshed = await oauth.refresh(tokens.refresh_token.get_secret_value(), stored.portal.portal_id)
    except PortalRevoked:
        return None
    await store.replace_tokens(stored.portal.portal_id, stored.portal.generation, refreshed)
    return refreshed


async def _has_newer_tokens(stored: StoredTokens, store: PortalStore) -> bool:
    portal = await store.get(stored.portal.portal_id)
    return portal is not None and portal.generation != stored.portal.generation
