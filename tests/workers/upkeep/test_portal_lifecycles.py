"""workers.upkeep.portal_lifecycles: uninstalls that the journal reports reach the store of portals."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.core import clock
from spokes.core.redis.keys import LIFECYCLES
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.lifecycles import Lifecycle, note_lifecycles
from spokes.portals.store import PortalState, PortalStore, Tokens
from tests.support.events import recorded
from workers.upkeep.portal_lifecycles import apply_lifecycles

PORTAL = 700100
TOKENS = Tokens(SecretStr("access"), SecretStr("refresh"), clock.now_ms() + 1_800_000)


@pytest.fixture
def app_settings(environ: dict[str, str]) -> Settings:
    return Settings.from_env({**environ, "HUBSPOT_CLIENT_ID": "the-app-s-client-id", "SECRETS_KEY": "s" * 32})


@pytest.fixture
async def portals(app_settings: Settings, store: AsyncEngine) -> PortalStore:
    portals = PortalStore(store, Vault.from_settings(app_settings))
    await portals.save_install(PORTAL, TOKENS, ("oauth",))
    return portals


async def state(portals: PortalStore) -> PortalState:
    portal = await portals.get(PORTAL)
    assert portal is not None
    return portal.state


async def test_uninstall_marks_the_portal_and_destroys_its_tokens(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await note_lifecycles(redis, [Lifecycle(PORTAL, False, clock.now_ms() + 1000)])
    await apply_lifecycles(app_settings, redis, store)
    assert (await state(portals), await portals.tokens(PORTAL)) == (PortalState.UNINSTALLED, None)
    (record,) = [each for each in await recorded(redis) if each.action is Action.PORTAL_UNINSTALLED]
    assert (record.portal_id, record.reason, record.actor) == (PORTAL, "uninstalled_at_hubspot", "spokes")
    assert await redis.llen(LIFECYCLES) == 0


async def test_uninstall_before_the_present_install_changes_nothing(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await note_lifecycles(redis, [Lifecycle(PORTAL, False, 1), Lifecycle(PORTAL, True, clock.now_ms())])
    await apply_lifecycles(app_settings, redis, store)
    assert await state(portals) is PortalState.INSTALLED


async def test_uninstall_that_is_noted_twice_is_recorded_once(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await note_lifecycles(redis, [Lifecycle(PORTAL, False, clock.now_ms() + 1000)] * 2)
    await apply_lifecycles(app_settings, redis, store)
    assert sum(each.action is Action.PORTAL_UNINSTALLED for each in await recorded(redis)) == 1


async def test_unknown_portals_and_unreadable_items_hold_nothing_up(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await redis.rpush(LIFECYCLES, b"\xff", "[1]", "{}")  # type: ignore[misc]  # redis-py types one class for sync and async
    await note_lifecycles(redis, [Lifecycle(5, False, 9), Lifecycle(PORTAL, False, clock.now_ms() + 1000)])
    await apply_lifecycles(app_settings, redis, store)
    assert await state(portals) is PortalState.UNINSTALLED
    assert await redis.llen(LIFECYCLES) == 0
