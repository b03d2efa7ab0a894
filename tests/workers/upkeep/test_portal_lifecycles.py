"""workers.upkeep.portal_lifecycles: uninstalls that the journal reports reach the store of portals."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.core import clock
from spokes.core.delivery import Entry
from spokes.core.redis.keys import JOB_QUEUE, LIFECYCLES
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.lifecycles import Lifecycle, note_lifecycles
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.queue.dead_letters import DeadLetter, DeadLetters, store_commands
from tests.support.events import event, recorded
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


async def store_letter(redis: Redis, reason: str) -> None:
    entry = Entry(f"{len(reason):020x}", 1, event(portalId=PORTAL))
    letter = DeadLetter(PORTAL, f"{PORTAL}-1-1", entry, reason, "", clock.now_ms())
    for command in store_commands(letter, ttl_s=3600):
        await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


async def test_install_replays_what_died_for_want_of_credentials(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    for reason in ("no_credentials", "not_permitted"):
        await store_letter(redis, reason)
    await note_lifecycles(redis, [Lifecycle(PORTAL, True, clock.now_ms())])
    await apply_lifecycles(app_settings, redis, store)
    assert [letter.reason async for letter in DeadLetters(redis).list(PORTAL)] == ["not_permitted"]
    assert await redis.zcard(JOB_QUEUE) == 1
    [record] = [each for each in await recorded(redis) if each.outcome is Outcome.REPLAYED]
    assert (record.actor, record.reason) == ("spokes", "portal_installed")


async def test_install_that_brought_no_tokens_replays_nothing(
    redis: Redis, store: AsyncEngine, app_settings: Settings, portals: PortalStore
) -> None:
    await portals.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await store_letter(redis, "no_credentials")
    await note_lifecycles(redis, [Lifecycle(PORTAL, True, clock.now_ms())])
    await apply_lifecycles(app_settings, redis, store)
    assert await redis.zcard(JOB_QUEUE) == 0
