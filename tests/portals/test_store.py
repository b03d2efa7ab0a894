import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import INSTALLED_PORTALS
from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens

PORTAL = 9_007_199_254_740_991  # ids exceed 32 bits
NEWER_KEY, KEY = "newer-key-that-is-long-enough", "first-key-that-is-long-enough"


def tokens(number: int = 1) -> Tokens:
    return Tokens(SecretStr(f"access-{number}"), SecretStr(f"refresh-{number}"), 1_900_000_000_000 + number)


@pytest.fixture
async def store(engine: AsyncEngine) -> PortalStore:
    await schema.upgrade(engine)
    return PortalStore(engine, Vault([KEY]))


async def test_install_is_stored_with_its_tokens(store: PortalStore) -> None:
    portal = await store.save_install(PORTAL, tokens(), ["oauth", "crm.objects.contacts.read"], name="Example")
    assert (portal.state, portal.generation, portal.name) == (PortalState.INSTALLED, 1, "Example")
    assert portal.scopes == ("oauth", "crm.objects.contacts.read")
    assert await store.get(PORTAL) == portal
    assert await store.tokens(PORTAL) == tokens()


async def test_unknown_portal_has_neither_state_nor_tokens(store: PortalStore) -> None:
    assert await store.get(1) is None
    assert await store.tokens(1) is None


async def test_second_install_replaces_tokens_and_scopes_and_keeps_the_name(store: PortalStore) -> None:
    await store.save_install(PORTAL, tokens(1), ["a"], name="Example")
    await store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")
    portal = await store.save_install(PORTAL, tokens(2), ["a", "b"])
    assert (portal.state, portal.reason, portal.name) == (PortalState.INSTALLED, "", "Example")
    assert (portal.scopes, portal.generation) == (("a", "b"), 2)
    assert await store.tokens(PORTAL) == tokens(2)


async def test_portals_are_listed_by_id_in_pages(store: PortalStore) -> None:
    for portal_id in (30, 10, 20):
        await store.save_install(portal_id, tokens(), [])
    assert [portal.portal_id for portal in await store.list(limit=2)] == [10, 20]
    assert [portal.portal_id for portal in await store.list(after=20)] == [30]


async def test_no_column_holds_a_token_in_clear(store: PortalStore) -> None:
    await store.save_install(PORTAL, tokens(), ["a"], name="Example")
    async with read_connection(store.engine) as connection:
        row = (await connection.execute(select(INSTALLED_PORTALS))).one()
    assert "access-1" not in str(tuple(row))
    assert "refresh-1" not in str(tuple(row))


async def test_representation_hides_tokens() -> None:
    assert "access-1" not in repr(tokens())
    assert "refresh-1" not in f"{tokens()}"


async def test_tokens_of_the_expected_generation_are_replaced(store: PortalStore) -> None:
    portal = await store.save_install(PORTAL, tokens(1), [])
    assert await store.replace_tokens(PORTAL, portal.generation, tokens(2))
    assert await store.tokens(PORTAL) == tokens(2)
    assert (await store.list())[0].generation == portal.generation + 1


async def test_tokens_of_another_generation_stay(store: PortalStore) -> None:
    portal = await store.save_install(PORTAL, tokens(1), [])
    assert await store.replace_tokens(PORTAL, portal.generation, tokens(2))
    assert not await store.replace_tokens(PORTAL, portal.generation, tokens(3))
    assert await store.tokens(PORTAL) == tokens(2)


async def test_accepted_refresh_ends_need_of_a_reinstall(store: PortalStore) -> None:
    """Its process was slow: another one used the earlier refresh token meanwhile, which HubSpot then refused."""
    portal = await store.save_install(PORTAL, tokens(1), [])
    await store.mark(PORTAL, PortalState.NEEDS_REINSTALL, "portal_revoked", generation=portal.generation)
    assert await store.replace_tokens(PORTAL, portal.generation, tokens(2))
    changed = await store.get(PORTAL)
    assert changed is not None
    assert (changed.state, changed.reason) == (PortalState.INSTALLED, "")


async def test_mark_for_an_earlier_generation_changes_nothing(store: PortalStore) -> None:
    portal = await store.save_install(PORTAL, tokens(1), [])
    await store.save_install(PORTAL, tokens(2), [])
    assert not await store.mark(PORTAL, PortalState.NEEDS_REINSTALL, "portal_revoked", generation=portal.generation)
    changed = await store.get(PORTAL)
    assert changed is not None
    assert changed.state is PortalState.INSTALLED


async def test_mark_reports_a_change_once(store: PortalStore) -> None:
    await store.save_install(PORTAL, tokens(1), [])
    marks = [await store.mark(PORTAL, PortalState.PAUSED, "operator") for _ in range(2)]
    assert marks == [True, False]


async def test_refresh_in_flight_stores_nothing_after_the_end(store: PortalStore) -> None:
    portal = await store.save_install(PORTAL, tokens(1), [])
    await store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")
    assert not await store.replace_tokens(PORTAL, portal.generation, tokens(2))
    await store.destroy_tokens(PORTAL)
    assert not await store.replace_tokens(PORTAL, portal.generation, tokens(2))


async def test_destroyed_tokens_are_gone(store: PortalStore) -> None:
    await store.save_install(PORTAL, tokens(1), [])
    await store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")
    await store.destroy_tokens(PORTAL)
    assert await store.tokens(PORTAL) is None
    assert await store.get(PORTAL) is not None


async def test_tokens_of_a_portal_that_is_installed_again_are_not_destroyed(store: PortalStore) -> None:
    await store.save_install(PORTAL, tokens(1), [])
    await store.mark(PORTAL, PortalState.UNINSTALLED, "disconnected")
    await store.save_install(PORTAL, tokens(2), [])
    await store.destroy_tokens(PORTAL)
    assert not await store.mark_erased(PORTAL)
    assert await store.tokens(PORTAL) == tokens(2)


async def test_changed_states_are_read_since_a_time(store: PortalStore) -> None:
    first = await store.save_install(1, tokens(), [])
    await store.save_install(2, tokens(), [])
    await store.mark(2, PortalState.UNINSTALLED, "disconnected")
    assert await store.changed_since(0) == {1: PortalState.INSTALLED, 2: PortalState.UNINSTALLED}
    assert await store.changed_since(first.changed_at + 3_600_000) == {}


async def test_reseal_uses_the_newest_key(store: PortalStore) -> None:
    await store.save_install(1, tokens(1), [])
    await store.save_install(2, tokens(2), [])
    rotated = PortalStore(store.engine, Vault([NEWER_KEY, KEY]))
    assert await rotated.reseal() == (2, ())
    assert await rotated.reseal() == (0, ())
    assert await PortalStore(store.engine, Vault([NEWER_KEY])).tokens(2) == tokens(2)


async def test_reseal_names_portals_that_no_key_opens(store: PortalStore) -> None:
    await store.save_install(1, tokens(1), [])
    other = PortalStore(store.engine, Vault([NEWER_KEY]))
    assert await other.reseal() == (0, (1,))
    with pytest.raises(SecretUnreadable):
        await other.tokens(1)
