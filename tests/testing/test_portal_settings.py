"""What a test sets for an account, and events of the account itself."""

from zoneinfo import ZoneInfo

import pytest

from spokes import Event, EventPortal, PortalSettings, Router, Tools
from spokes.testing import Spokes

router = Router()
seen: list[tuple[str, EventPortal]] = []


class Greeting(PortalSettings):
    """Settings of the handler."""

    greeting: str


@router.register("portal.installed")
@router.register("portal.uninstalled")
@router.register("contact.creation")
async def see(event: Event, tools: Tools) -> None:
    seen.append((event.type, tools.portal))


@pytest.fixture
def spokes_handlers() -> Router:
    seen.clear()
    return router


async def test_handlers_see_what_a_test_sets(spokes: Spokes) -> None:
    await spokes.set_portal(settings={"greeting": "Hei"}, name="Nordlys", time_zone="Europe/Oslo", currency="NOK")
    await spokes.deliver("contact.creation", await spokes.hubspot.contacts.create())
    [(_, portal)] = seen
    assert (portal.settings(Greeting).greeting, portal.name, portal.time_zone, portal.currency) == (
        "Hei", "Nordlys", ZoneInfo("Europe/Oslo"), "NOK",
    )  # fmt: skip


@pytest.mark.parametrize("event_type", ["portal.installed", "portal.uninstalled"])
async def test_events_of_the_account_are_delivered(spokes: Spokes, event_type: str) -> None:
    element = {"subscriptionType": event_type, "portalId": spokes.hubspot.portal_id, "occurredAt": 1_790_000_000_000}
    assert (await spokes.deliver_json(element)).outcome == "processed"
    assert [(name, portal.id) for name, portal in seen] == [(event_type, spokes.hubspot.portal_id)]
