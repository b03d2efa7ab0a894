"""`tools.portal`, and handlers that are switched off in one portal."""

from collections.abc import Awaitable, Callable
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portal import EventPortal, PortalSettings
from spokes.portals.profile import AccountDetails, PortalProfile
from spokes.portals.profile_store import with_values
from spokes.portals.published_profiles import publish
from spokes.routing import uses
from spokes.tools import Tools
from tests.workers.harness import PORTAL, Harness, change

SetProfile = Callable[..., Awaitable[None]]


class Greeting(PortalSettings):
    """Settings of the tests' handler."""

    greeting: str = "Hello"
    limit: int


@pytest.fixture
def set_profile(harness: Harness, redis: Redis, settings: Settings) -> SetProfile:
    """Return a function that publishes the settings of the portal of the harness."""

    async def set_profile(values: dict[str, str] | None = None, **fields: object) -> None:
        profile = PortalProfile(PORTAL, **fields)  # type: ignore[arg-type]  # of each test
        await publish(redis, [with_values(Vault.from_settings(settings), profile, values or {})])
        await harness.parts.profiles.refresh()

    return set_profile


@pytest.fixture
def portals(harness: Harness) -> list[EventPortal]:
    """The portals that a handler of changes of the property "seen" sees."""
    seen: list[EventPortal] = []

    @harness.router.register("contact.propertyChange", property="seen")
    async def see(event: Event, tools: Tools) -> None:
        seen.append(tools.portal)

    return seen


async def see(harness: Harness) -> None:
    await harness.run((change("x", 1, name="seen"),))


async def test_portal_without_settings_has_the_defaults(harness: Harness, portals: list[EventPortal]) -> None:
    await see(harness)
    [portal] = portals
    assert (portal.id, portal.name, portal.time_zone, portal.currency, portal.region) == (
        PORTAL, "", ZoneInfo("UTC"), "", "US",
    )  # fmt: skip


async def test_portal_shows_what_hubspot_says_of_its_account(
    harness: Harness, portals: list[EventPortal], set_profile: SetProfile
) -> None:
    await set_profile(account=AccountDetails("Nordlys AS", "Europe/Oslo", "NOK"))
    await see(harness)
    [portal] = portals
    assert (portal.name, portal.time_zone, portal.currency) == ("Nordlys AS", ZoneInfo("Europe/Oslo"), "NOK")


async def test_operators_settings_count_before_the_accounts(
    harness: Harness, portals: list[EventPortal], set_profile: SetProfile
) -> None:
    account = AccountDetails("Nordlys AS", "Europe/Oslo", "NOK")
    await set_profile(account=account, name="Nordlys", time_zone="Asia/Tokyo", currency="JPY", region="JP")
    await see(harness)
    [portal] = portals
    assert (portal.name, portal.time_zone, portal.currency, portal.region) == (
        "Nordlys", ZoneInfo("Asia/Tokyo"), "JPY", "JP",
    )  # fmt: skip


async def test_settings_of_handlers_own_are_typed(
    harness: Harness, portals: list[EventPortal], set_profile: SetProfile
) -> None:
    await set_profile({"limit": "7", "unknown": "x"})
    await see(harness)
    settings = portals[0].settings(Greeting)
    assert (settings.greeting, settings.limit) == ("Hello", 7)
    assert "7" not in repr(settings)


@pytest.mark.parametrize("values", [{}, {"limit": "many"}])
async def test_event_whose_portal_lacks_a_setting_is_a_dead_letter(
    harness: Harness, set_profile: SetProfile, values: dict[str, str]
) -> None:
    @harness.router.register("contact.propertyChange", property="greeted")
    async def greet(event: Event, tools: Tools) -> None:
        tools.portal.settings(Greeting)

    await set_profile(values)
    await harness.run((change("x", 1, name="greeted"),))
    assert await harness.outcomes() == [("dead", "portal_settings")]


async def test_handler_that_is_switched_off_is_not_called(harness: Harness, set_profile: SetProfile) -> None:
    await set_profile(handlers=("-harness.record",))
    await harness.run((change("Oslo", 1),))
    assert (harness.calls, await harness.outcomes()) == ([], [("discarded", "handler_off")])


async def test_only_named_handlers_run(harness: Harness, portals: list[EventPortal], set_profile: SetProfile) -> None:
    await set_profile(handlers=("test_handler_portals.see",))
    await harness.run((change("Oslo", 1),), (change("x", 1, name="seen", object_id=2),))
    assert (harness.calls, len(portals)) == ([], 1)


async def test_events_that_the_portal_does_not_allow_are_discarded(
    harness: Harness, portals: list[EventPortal], set_profile: SetProfile
) -> None:
    await set_profile(events=("-contact.propertyChange:seen",))
    await harness.run((change("Oslo", 1),), (change("x", 1, name="seen", object_id=2),))
    assert (len(harness.calls), portals) == (1, [])


async def test_switched_off_handler_of_several_leaves_the_others_alone(
    harness: Harness, set_profile: SetProfile
) -> None:
    called: list[str] = []

    @harness.router.register("contact.propertyChange", property="both")
    async def first(event: Event, tools: Tools) -> None:
        called.append("first")

    @harness.router.register("contact.propertyChange", property="both")
    async def second(event: Event, tools: Tools) -> None:
        called.append("second")

    await set_profile(handlers=("-test_handler_portals.first",))
    await harness.run((change("x", 1, name="both"),))
    assert called == ["second"]
    assert sorted(await harness.outcomes()) == [("discarded", "handler_off"), ("processed", "")]


async def test_phone_numbers_take_the_country_of_the_portal(
    harness: Harness, set_profile: SetProfile, settings: Settings
) -> None:
    regions: list[str] = []
    written: list[str] = []

    @harness.router.register("contact.propertyChange", property="dialled")
    @uses(may=("contacts.update",))
    async def dial(event: Event, tools: Tools) -> None:
        regions.append(tools.default_region)
        written.append((await tools.crm.contacts._validated({"phone": "030 123456"}))["phone"])

    await set_profile(region="DE")
    await harness.run((change("x", 1, name="dialled"),))
    assert (regions, written) == (["DE"], ["+4930123456"])
