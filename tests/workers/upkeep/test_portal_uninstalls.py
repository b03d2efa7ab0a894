"""workers.upkeep.portal_uninstalls: customers who removed the app are noticed, and handlers told of it once."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.installs.disconnecting import Operator, disconnect
from spokes.console.installs.oauth_parts import oauth_client
from spokes.core import clock
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.crm.services import CRM
from spokes.portals.lifecycles import Lifecycle, note_lifecycles
from spokes.portals.store import REFRESH_INTERRUPTED, PortalState, PortalStore
from spokes.privacy.redis_data import queued_deliveries
from spokes.simulator.app import Simulator
from tests.support.hubspot.app_installs import install_app
from workers.credentials.installed_portals import InstalledPortals
from workers.upkeep import portal_uninstalls
from workers.upkeep.portal_lifecycles import apply_lifecycles
from workers.upkeep.portal_uninstalls import RevokedPortals, check_idle_portals

PORTAL, OTHER = 700100, 700200
SCOPES = frozenset({"oauth"})
_HOUR_S = 3600


@pytest.fixture
def app_settings(environ: dict[str, str], hubspot: Simulator, database_url: str) -> Settings:
    """The settings of an app whose handlers register for uninstalls."""
    app = {
        "HUBSPOT_CLIENT_ID": hubspot.config.oauth.client_id, "HUBSPOT_CLIENT_SECRET": hubspot.config.client_secret,
        "HUBSPOT_API_URL": hubspot.url, "SECRETS_KEY": "s" * 32, "HANDLERS": "tests.support.handlers.portal_events",
        "DATABASE_URL": database_url,
    }  # fmt: skip
    return Settings.from_env(environ | app)


@pytest.fixture
async def portals(app_settings: Settings, store: AsyncEngine, hubspot: Simulator) -> PortalStore:
    portals = PortalStore(store, Vault.from_settings(app_settings))
    await install_app(portals, hubspot, PORTAL, SCOPES)
    return portals


@pytest.fixture
async def crm(app_settings: Settings, redis: Redis, portals: PortalStore) -> AsyncIterator[CRM]:
    """The CRM of a worker."""
    installed = InstalledPortals.open(app_settings, redis)
    assert installed is not None
    crm = await CRM.open(app_settings, redis, installed.credentials)
    await installed.load()
    yield crm
    await crm.close()
    await installed.close()


async def queued(redis: Redis) -> list[tuple[str, int]]:
    """Return type and portal of every queued event."""
    deliveries = [delivery async for delivery in queued_deliveries(redis)]
    return [(entry.event.type, entry.event.portal_id) for delivery in deliveries for entry in delivery.entries]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between a refusal and its event."""
    monkeypatch.setattr(portal_uninstalls, "_SETTLED_MS", -1000)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("is_expired", [True, False])
async def test_refused_refresh_is_an_event_once(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore, hubspot: Simulator, crm: CRM,
    is_expired: bool,
) -> None:  # fmt: skip
    if is_expired:
        await install_app(portals, hubspot, PORTAL, SCOPES, expires_in_s=-1)
    hubspot.installs.uninstall(PORTAL)
    assert not await crm.accepts_credentials(PORTAL)  # a call: its token has expired, or is refused with 401
    for process in (RevokedPortals(app_settings, redis, store), RevokedPortals(app_settings, redis, store)):
        await process.queue_events()
        await process.queue_events()
    assert await queued(redis) == [("portal.uninstalled", PORTAL)]


@pytest.mark.usefixtures("at_once")
async def test_refusal_after_another_install_is_an_event_again(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore, hubspot: Simulator
) -> None:
    process = RevokedPortals(app_settings, redis, store)
    for _ in range(2):
        await portals.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
        await process.queue_events()
        await install_app(portals, hubspot, PORTAL, SCOPES)
        await process.queue_events()
    assert await queued(redis) == [("portal.uninstalled", PORTAL)] * 2


@pytest.mark.usefixtures("at_once")
async def test_refusal_of_tokens_that_were_lost_on_the_way_is_no_event(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await portals.mark(PORTAL, PortalState.NEEDS_REINSTALL, REFRESH_INTERRUPTED)
    await RevokedPortals(app_settings, redis, store).queue_events()
    assert await queued(redis) == []


async def test_refusal_is_no_event_while_a_refresh_of_the_same_tokens_may_be_in_flight(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await portals.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await RevokedPortals(app_settings, redis, store).queue_events()
    assert await queued(redis) == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("by", ["operator", "journal"])
@pytest.mark.parametrize("is_refused_before", [True, False])
async def test_uninstall_is_one_event_also_after_a_refusal(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore, by: str, is_refused_before: bool
) -> None:
    process = RevokedPortals(app_settings, redis, store)
    if is_refused_before:
        await portals.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
        await process.queue_events()
    if by == "journal":
        await note_lifecycles(redis, [Lifecycle(PORTAL, False, clock.now_ms() + 1000)])
        await apply_lifecycles(app_settings, redis, store)
    else:
        oauth = oauth_client(app_settings)
        operator = Operator("ada", "contract ended")
        await disconnect(PORTAL, operator, settings=app_settings, store=portals, oauth=oauth, redis=redis)
        await oauth.close()
    await process.queue_events()
    portal = await portals.get(PORTAL)
    assert portal is not None
    assert portal.state is PortalState.UNINSTALLED
    assert await queued(redis) == [("portal.uninstalled", PORTAL)]


async def test_idle_portal_that_removed_the_app_is_noticed(
    app_settings: Settings, store: AsyncEngine, portals: PortalStore, hubspot: Simulator, crm: CRM, redis: Redis
) -> None:
    for portal_id in (PORTAL, OTHER):
        await install_app(portals, hubspot, portal_id, SCOPES, expires_in_s=-25 * _HOUR_S)
    await crm.credentials._installed.directory.refresh()  # type: ignore[attr-defined]  # as a worker does
    hubspot.installs.uninstall(PORTAL)
    await check_idle_portals(app_settings, store, crm.credentials)
    states = {portal.portal_id: portal.state for portal in await portals.list()}
    assert states == {PORTAL: PortalState.NEEDS_REINSTALL, OTHER: PortalState.INSTALLED}
    assert hubspot.installs.refreshes == {OTHER: 1}


async def test_portal_with_calls_is_not_checked(
    app_settings: Settings, store: AsyncEngine, portals: PortalStore, hubspot: Simulator, crm: CRM
) -> None:
    await install_app(portals, hubspot, PORTAL, SCOPES, expires_in_s=-23 * _HOUR_S)
    await check_idle_portals(app_settings, store, crm.credentials)
    assert hubspot.installs.refreshes == {}


async def test_refusal_of_the_app_marks_no_idle_portal(
    app_settings: Settings, store: AsyncEngine, portals: PortalStore, hubspot: Simulator, redis: Redis
) -> None:
    await install_app(portals, hubspot, PORTAL, SCOPES, expires_in_s=-25 * _HOUR_S)
    wrong = app_settings.model_copy(update={"hubspot_client_secret": (SecretStr("no-secret-of-this-app-at-all"),)})
    installed = InstalledPortals.open(wrong, redis)
    assert installed is not None
    crm = await CRM.open(wrong, redis, installed.credentials)
    await installed.load()
    await check_idle_portals(wrong, store, crm.credentials)
    portal = await portals.get(PORTAL)
    await crm.close()
    await installed.close()
    assert portal is not None
    assert portal.state is PortalState.INSTALLED
