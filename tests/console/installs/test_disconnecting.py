"""Disconnecting a portal: HubSpot's uninstall endpoint over real HTTP, the audit, the tokens, the state."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.console.installs.disconnecting import Operator, disconnect
from spokes.console.installs.oauth_parts import oauth_client
from spokes.core import clock
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from tests.support.events import recorded
from tests.support.hubspot.oauth_hubspot import PORTAL, IssuedCode, OAuthHubSpot

ADA = Operator("ada", "contract ended", "203.0.113.7")


@pytest.fixture
def settings(oauth_environ: dict[str, str]) -> Settings:
    return Settings.from_env(oauth_environ)


@pytest.fixture
async def oauth(settings: Settings) -> AsyncIterator[OAuthClient]:
    client = oauth_client(settings)
    yield client
    await client.close()


async def connect(store: PortalStore, hubspot: OAuthHubSpot, *, expires_in_s: int = 1800) -> None:
    """Store a portal whose tokens HubSpot knows."""
    issued = IssuedCode(PORTAL, [], "")
    hubspot.tokens["access-1"] = hubspot.refresh_tokens["refresh-1"] = issued
    expires_at = clock.now_ms() + expires_in_s * 1000
    await store.save_install(PORTAL, Tokens(SecretStr("access-1"), SecretStr("refresh-1"), expires_at), ["oauth"])


async def state_of(store: PortalStore) -> tuple[str, str, bool]:
    portal = await store.get(PORTAL)
    assert portal is not None
    return portal.state.value, portal.reason, await store.tokens(PORTAL) is not None


async def test_disconnected_portal_is_uninstalled_without_tokens(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot)
    assert await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert await state_of(store) == ("uninstalled", "disconnected", False)
    assert hubspot.tokens == {}
    [record] = await recorded(redis)
    assert (record.action, record.portal_id, record.actor, record.reason) == (
        "portal.uninstalled", PORTAL, "ada", "contract ended",
    )  # fmt: skip
    assert record.detail == {"state": "installed", "address": "203.0.113.7"}


async def test_expired_token_is_refreshed_before_the_portal_is_uninstalled(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot, expires_in_s=-60)
    del hubspot.tokens["access-1"]
    assert await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert [name for name, _ in hubspot.calls] == ["token", "uninstall"]


async def test_token_that_expired_earlier_than_we_know_is_refreshed(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot)
    del hubspot.tokens["access-1"]
    assert await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert [name for name, _ in hubspot.calls] == ["uninstall", "token", "uninstall"]


async def test_refresh_that_answers_for_another_portal_uninstalls_neither(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot, expires_in_s=-60)
    hubspot.failures["token"] = [(200, {"access_token": "x", "refresh_token": "y", "hub_id": PORTAL + 1})]
    with pytest.raises(HttpProblem, match=f"HubSpot issues no tokens of portal {PORTAL}"):
        await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert [name for name, _ in hubspot.calls] == ["token"]
    tokens = await store.tokens(PORTAL)
    assert tokens is not None
    assert tokens.access_token.get_secret_value() == "access-1"


@pytest.mark.parametrize("expires_in_s", [-60, 1800])
async def test_portal_that_removed_the_app_itself_is_disconnected(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, expires_in_s: int, settings: Settings
) -> None:
    await connect(store, hubspot, expires_in_s=expires_in_s)
    hubspot.forget(PORTAL)
    assert not await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert await state_of(store) == ("uninstalled", "disconnected", False)


async def test_portal_that_needs_a_reinstall_can_be_disconnected(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot)
    hubspot.forget(PORTAL)
    await store.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await AlertEpisodes(redis).set_state(Alert.NEEDS_REINSTALL, subject=PORTAL, portal_id=PORTAL, is_active=True)
    await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert await state_of(store) == ("uninstalled", "disconnected", False)
    assert await AlertEpisodes(redis).active(Alert.NEEDS_REINSTALL) == []


@pytest.mark.parametrize(
    ("call", "answer", "status"),
    [
        ("uninstall", (503, {}), 503),
        ("uninstall", (429, {}), 503),
        ("token", (503, {}), 503),
        ("token", (400, {"error": "invalid_client", "status": "BAD_CLIENT_SECRET"}), 502),
    ],
)
async def test_portal_stays_connected_if_hubspot_does_not_uninstall_it(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis,
    call: str, answer: tuple[int, dict[str, object]], status: int, settings: Settings
) -> None:  # fmt: skip
    await connect(store, hubspot, expires_in_s=-60 if call == "token" else 1800)
    hubspot.failures[call] = [answer]
    with pytest.raises(HttpProblem, match="still connected") as error:
        await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert error.value.status == status
    assert await state_of(store) == ("installed", "", True)
    assert await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)


async def test_tokens_that_a_worker_refreshes_at_the_same_time_are_used(
    store: PortalStore,
    hubspot: OAuthHubSpot,
    oauth: OAuthClient,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    await connect(store, hubspot, expires_in_s=-60)
    hubspot.tokens["access-2"] = hubspot.tokens["access-1"]
    refresh = oauth.refresh

    async def refresh_after_a_worker(token: str, portal_id: int) -> Tokens:
        if token == "refresh-1":
            del hubspot.refresh_tokens["refresh-1"]
            newer = Tokens(SecretStr("access-2"), SecretStr("refresh-2"), clock.now_ms() + 1_800_000)
            await store.replace_tokens(PORTAL, 1, newer)
        return await refresh(token, portal_id)

    monkeypatch.setattr(oauth, "refresh", refresh_after_a_worker)
    assert await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert await state_of(store) == ("uninstalled", "disconnected", False)


async def test_unknown_and_uninstalled_portals_are_refused(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    with pytest.raises(HttpProblem, match="has not installed the app"):
        await disconnect(1, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    await connect(store, hubspot)
    await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    with pytest.raises(HttpProblem, match="uninstalled already"):
        await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert len(await recorded(redis)) == 1


async def test_disconnecting_that_was_interrupted_is_completed(
    store: PortalStore, hubspot: OAuthHubSpot, oauth: OAuthClient, redis: Redis, settings: Settings
) -> None:
    await connect(store, hubspot)
    await store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")  # the tokens are still there
    await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    assert await state_of(store) == ("uninstalled", "disconnected", False)
