"""The credentials of portals that installed the app: each call gets the portal's own access token.

A token is loaded at the first call for its portal and refreshed ahead of its expiry, by one process at a time
(`RefreshLeases`). What HubSpot issues is stored before it is used. While refreshes fail for a transient reason, the
earlier token is used until it expires. A refusal of one portal's refresh token concerns that portal alone; a refusal of
our app, and the app's rate limit, hold up the refreshes of all portals and end no install.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.errors import AuditUnavailable, CRMUnavailable, NoCredentials, SecretUnreadable
from spokes.portals.directory import PortalDirectory
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.oauth_errors import AppRefused, OAuthError, OAuthUnavailable, PortalRefused, PortalRevoked
from spokes.portals.pending_tokens import PendingTokens, PendingTokenStore, log_unreadable
from spokes.portals.refresh_leases import RefreshLeases, RefreshTurn
from spokes.portals.refresh_times import TokenAge, backoff_s, token_age
from spokes.portals.store import REFRESH_INTERRUPTED, PortalState, PortalStore, StoredTokens
from spokes.portals.token_alerts import TokenAlerts

if TYPE_CHECKING:
    from spokes.crm.transport.client import HubSpotClient  # its import loads hubspot-api-client

_WAIT_S: Final = 20.0  # for which a call waits for another process' refresh, or for its turn
_POLL_S: Final = 0.2  # how often it looks whether the other process has stored new tokens
_AHEAD_RETRY_S: Final = 5.0  # until a refresh ahead of the expiry that could not begin is tried again, at least half
_REFUSED_BACKOFF_S: Final = (15.0, 30.0, 60.0, 120.0, 300.0)  # after HubSpot refused app or portal; the last repeats
_FORCED_EVERY_S: Final = 60.0  # a refresh because of a 401, by portal
_STORE_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one repeats
_STORE_GIVE_UP_S: Final = 900.0  # then the pending tokens in Redis wait for the next refresh
_REFUSED_TOKEN_CODES: Final = frozenset({"bad_refresh_token", "invalid_grant"})  # after an interruption: replaced
_MAX_CACHED: Final = 5_000  # portals with a token in memory
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _CachedToken:
    """An access token in use, as the client that sends it."""

    client: "HubSpotClient"
    generation: int
    expires_at: int
    lifetime_s: int
    fingerprint: str

    def age(self, portal_id: int) -> TokenAge:
        return token_age(
            portal_id, self.generation, expires_at=self.expires_at, lifetime_s=self.lifetime_s, now_ms=clock.now_ms()
        )


class TokenService:
    """`spokes.crm.transport.credentials.Credentials` of the portals that installed the app."""

    def __init__(
        self,
        store: PortalStore,
        oauth: OAuthClient,
        redis: Redis,
        make_client: Callable[[str], "HubSpotClient"],
        *,
        refreshes_per_s: int = 10,
        directory: PortalDirectory | None = None,
        fingerprint: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Call HubSpot with `make_client(access_token)`.

        Args:
            oauth: closed by `close`.
            refreshes_per_s: of all processes together.
            directory: the states of portals; a new one without.
            fingerprint: makes the fingerprint by which the audit names an access token.
        """
        self._make_fingerprint = fingerprint
        self._store = store
        self._oauth = oauth
        self._make_client = make_client
        self.directory = directory or PortalDirectory(store)
        self._leases = RefreshLeases(redis, refreshes_per_s=refreshes_per_s)
        self._pending = PendingTokenStore(redis, store.vault)
        self._alerts = TokenAlerts(redis)
        self._cached: dict[int, _CachedToken] = {}
        self._tasks: dict[int, asyncio.Task[_CachedToken]] = {}
        self._failures: dict[int, int] = {}
        self._forced_at: dict[int, float] = {}
        self._ahead_after: dict[int, float] = {}  # when a refresh ahead of the expiry is tried again; monotonic clock
        self._refreshing: set[int] = set()
        self._turns = asyncio.Lock()  # held by the portal whose turn it is to begin a refresh
        self._app_refusals = 0  # in a row

    @property
    def portals(self) -> Collection[int]:
        """The installed portals."""
        return self.directory.installed

    def fingerprint(self, portal_id: int) -> str:
        """Return the fingerprint of the access token in use for a portal, empty without one."""
        cached = self._cached.get(portal_id)
        return cached.fingerprint if cached else ""

    async def client(self, portal_id: int) -> "HubSpotClient":
        """Return a client with the portal's access token.

        Raises:
            NoCredentials: the portal has not installed the app, or not any more.
            CRMUnavailable: its token has expired and cannot be refreshed now.
        """
        cached = self._cached.get(portal_id)
        age = TokenAge.EXPIRED if cached is None else cached.age(portal_id)
        if cached is None or age is TokenAge.EXPIRED:
            return (await self._wait_for(portal_id)).client
        is_due = age is TokenAge.AGEING and time.monotonic() >= self._ahead_after.get(portal_id, 0.0)
        if is_due and portal_id not in self._tasks:
            self._start(portal_id, is_ahead=True)
        return cached.client

    async def renew(self, portal_id: int, refused: "HubSpotClient") -> "HubSpotClient | None":
        """After a 401, return a client with a newer token than `refused` has; None if there is none.

        Clocks differ, so a token may have expired earlier than we know.
        """
        if portal_id in self._tasks:
            await self._wait_for(portal_id)
        cached = self._cached.get(portal_id)
        if cached is None or cached.client is not refused:
            return await self.client(portal_id)
        if time.monotonic() - self._forced_at.get(portal_id, -_FORCED_EVERY_S) < _FORCED_EVERY_S:
            await self._read(portal_id)  # or the portal has just been uninstalled
            return None  # new tokens do not help
        return (await asyncio.shield(self._start(portal_id, refused_generation=cached.generation))).client

    async def close(self) -> None:
        """Let refreshes in flight end, but begin none, then close the connections."""
        for portal_id, task in self._tasks.items():
            if portal_id not in self._refreshing:
                task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._oauth.close()

    async def _wait_for(self, portal_id: int) -> _CachedToken:
        task = self._tasks.get(portal_id) or self._start(portal_id)
        try:
            async with asyncio.timeout(_WAIT_S):
                return await asyncio.shield(task)
        except TimeoutError:
            raise CRMUnavailable from None
        except asyncio.CancelledError:
            if task.cancelled():  # by `close`: the caller itself is not cancelled
                raise CRMUnavailable from None
            raise

    def _start(
        self, portal_id: int, *, is_ahead: bool = False, refused_generation: int = 0
    ) -> asyncio.Task[_CachedToken]:
        """Load or refresh the portal's token in a task of its own: a cancelled caller must not end a refresh."""
        task = asyncio.create_task(self._obtain(portal_id, is_ahead, refused_generation))
        self._tasks[portal_id] = task
        task.add_done_callback(lambda ended: self._task_ended(portal_id, ended))
        return task

    def _task_ended(self, portal_id: int, task: asyncio.Task[_CachedToken]) -> None:
        del self._tasks[portal_id]
        if not task.cancelled():
            task.exception()  # retrieved: perhaps no caller waits for it

    async def _obtain(self, portal_id: int, is_ahead: bool, refused_generation: int) -> _CachedToken:  # noqa: FBT001 - private
        deadline = time.monotonic() + _WAIT_S
        while True:
            stored = await self._read(portal_id)
            cached = self._usable(stored, is_ahead=is_ahead, refused_generation=refused_generation)
            if cached is not None:
                return self._keep(portal_id, cached)
            turn = await self._begin(portal_id, deadline, is_ahead=is_ahead)
            if turn.is_granted:
                await self._refresh_if_unchanged(stored)
                if refused_generation:
                    self._forced_at[portal_id] = time.monotonic()
                continue
            if is_ahead:
                self._ahead_after[portal_id] = time.monotonic() + _AHEAD_RETRY_S * random.uniform(0.5, 1.0)
            if turn.reason in {"app", "portal"}:
                raise CRMUnavailable(retry_after_s=turn.wait_s)
            if is_ahead or time.monotonic() + _POLL_S > deadline:
                raise CRMUnavailable
            await asyncio.sleep(min(turn.wait_s, _POLL_S) * random.uniform(0.5, 1.0))

    async def _begin(self, portal_id: int, deadline: float, *, is_ahead: bool) -> RefreshTurn:
        """Begin a refresh, in turn with the other portals of this process while the rate limit is reached.

        Raises:
            CRMUnavailable: Redis does not answer, or the portal's turn has not come before `deadline`.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())), self._turns:
                while True:
                    turn = await self._leases.begin(portal_id)
                    if turn.reason != "rate" or is_ahead:
                        return turn
                    await asyncio.sleep(turn.wait_s)
        except TimeoutError:
            raise CRMUnavailable from None

    async def _read(self, portal_id: int) -> StoredTokens:
        """Return the portal's stored tokens.

        Raises:
            NoCredentials: there are none that may be used.
            CRMUnavailable: the store does not answer, or none of our keys opens them.
        """
        try:
            stored = await self._store.read(portal_id)
        except AuditUnavailable:
            raise CRMUnavailable from None
        except SecretUnreadable:
            log_unreadable(portal_id)
            raise CRMUnavailable from None
        self.directory.set_state(portal_id, None if stored is None else stored.portal.state)
        if stored is None or stored.tokens is None or portal_id not in self.directory.installed:
            self._forget(portal_id)
            raise NoCredentials
        return stored

    def _usable(self, stored: StoredTokens, *, is_ahead: bool, refused_generation: int) -> _CachedToken | None:
        """Return the stored access token, None if it has to be refreshed first."""
        portal, tokens = stored.portal, stored.tokens
        if tokens is None or portal.generation <= refused_generation:
            return None
        cached = self._cached.get(portal.portal_id)
        if cached is None or cached.generation != portal.generation:
            token = tokens.access_token.get_secret_value()
            client, fingerprint = self._make_client(token), self._make_fingerprint(token)
            cached = _CachedToken(client, portal.generation, tokens.expires_at, tokens.lifetime_s, fingerprint)
        age = cached.age(portal.portal_id)
        return cached if age is TokenAge.FRESH or (age is TokenAge.AGEING and not is_ahead) else None

    def _keep(self, portal_id: int, cached: _CachedToken) -> _CachedToken:
        if len(self._cached) >= _MAX_CACHED and portal_id not in self._cached:
            self._forget(next(iter(self._cached)))
        self._ahead_after.pop(portal_id, None)
        self._cached.pop(portal_id, None)
        self._cached[portal_id] = cached  # last: the first one is forgotten first
        return cached

    async def _refresh_if_unchanged(self, stored: StoredTokens) -> None:
        """Refresh tokens under the acquired lease, unless another process has done so in the meantime."""
        portal_id = stored.portal.portal_id
        self._refreshing.add(portal_id)
        try:
            async with self._leases.held(portal_id):
                latest = await self._read(portal_id)
                if latest.portal.generation == stored.portal.generation:
                    await self._refresh(latest)
        finally:
            self._refreshing.discard(portal_id)

    def _forget(self, portal_id: int) -> None:
        for by_portal in (self._cached, self._failures, self._forced_at, self._ahead_after):
            by_portal.pop(portal_id, None)

    async def _refresh(self, stored: StoredTokens) -> None:
        """Refresh the tokens of a portal under its lease, and store what comes back.

        Raises:
            NoCredentials: HubSpot refuses the portal's refresh token for good.
            CRMUnavailable: HubSpot cannot answer now, or refuses our app.
        """
        portal, tokens = stored.portal, stored.tokens
        if tokens is None:
            raise NoCredentials
        if (pending := await self._pending.read(portal.portal_id)) is not None:
            if pending.generation == portal.generation:
                await self._store_tokens(portal.portal_id, pending)
                return
            await self._pending.delete(portal.portal_id)
        is_repeated = await self._leases.note_request(portal.portal_id, portal.generation)
        try:
            issued = await self._oauth.refresh(tokens.refresh_token.get_secret_value(), portal.portal_id)
        except OAuthError as error:
            is_interrupted = is_repeated and error.code in _REFUSED_TOKEN_CODES
            if not is_interrupted and not error.may_have_effect:
                await self._leases.end_request(portal.portal_id)
            await self._refresh_failed(stored, PortalRevoked(REFRESH_INTERRUPTED) if is_interrupted else error)
            return
        self._failures.pop(portal.portal_id, None)
        self._app_refusals = 0
        await self._store_tokens(portal.portal_id, PendingTokens(portal.generation, issued))
        await self._leases.end_request(portal.portal_id)
        await self._alerts.report_refreshed(portal.portal_id)

    async def _store_tokens(self, portal_id: int, pending: PendingTokens) -> None:
        """Store issued tokens, however long the store does not answer, under the lease."""
        started, attempt = time.monotonic(), 0
        while True:
            try:
                if await self._store.replace_tokens(portal_id, pending.generation, pending.tokens):
                    log.info("portal_tokens_refreshed", portal_id=portal_id, generation=pending.generation + 1)
                break
            except AuditUnavailable:
                if attempt == 0:
                    await self._pending.put(portal_id, pending)
                if time.monotonic() - started > _STORE_GIVE_UP_S:
                    raise CRMUnavailable from None
                await asyncio.sleep(_STORE_RETRY_S[min(attempt, len(_STORE_RETRY_S) - 1)])
                attempt += 1
        await self._pending.delete(portal_id)

    async def _refresh_failed(self, stored: StoredTokens, error: OAuthError) -> None:
        """Act on a failed refresh; return if another process has changed the tokens."""
        portal = stored.portal
        match error:
            case PortalRevoked():
                if not await self._mark_revoked(portal.portal_id, portal.generation, error):
                    return
                raise NoCredentials
            case AppRefused():
                log.error("oauth_app_refused", code=error.code)
                await self._alerts.report_app_refused(error.code)
                wait_s = _refused_backoff_s(self._app_refusals)
                seconds = await self._leases.begin_app_backoff(wait_s)
                self._app_refusals += seconds == wait_s
            case PortalRefused():
                log.error("portal_refresh_refused", portal_id=portal.portal_id, code=error.code)
                await self._alerts.report_portal_refused(portal.portal_id, error.code)
                seconds = _refused_backoff_s(self._count_failure(portal.portal_id) - 1)
                await self._leases.back_off_portal(portal.portal_id, seconds)
            case _:
                requested_s = error.retry_after_s if isinstance(error, OAuthUnavailable) else 0.0
                seconds = backoff_s(self._count_failure(portal.portal_id), requested_s, random.random())
                log.warning(
                    "portal_refresh_failed", portal_id=portal.portal_id, code=error.code, wait_s=round(seconds, 1)
                )
                if requested_s and isinstance(error, OAuthUnavailable) and error.is_rate_limit:
                    await self._leases.back_off_app(seconds)
                else:
                    await self._leases.back_off_portal(portal.portal_id, seconds)
        raise CRMUnavailable(retry_after_s=seconds)

    async def _mark_revoked(self, portal_id: int, generation: int, error: OAuthError) -> bool:
        """Mark that a portal needs a reinstall; return False if its tokens are of another generation by now."""
        try:
            is_marked = await self._store.mark(
                portal_id, PortalState.NEEDS_REINSTALL, error.code or error.reason, generation=generation
            )
        except AuditUnavailable:
            raise CRMUnavailable from None
        if is_marked:
            self._forget(portal_id)
            self.directory.set_state(portal_id, PortalState.NEEDS_REINSTALL)
            await self._alerts.report_revoked(portal_id, error.code)
        return is_marked

    def _count_failure(self, portal_id: int) -> int:
        """Count a failed refresh; return how many there were in a row."""
        failures = self._failures[portal_id] = self._failures.get(portal_id, 0) + 1
        return failures


def _refused_backoff_s(earlier: int) -> float:
    """Return the wait after a refusal that `earlier` others preceded."""
    return _REFUSED_BACKOFF_S[min(earlier, len(_REFUSED_BACKOFF_S) - 1)] * random.uniform(0.7, 1.3)
