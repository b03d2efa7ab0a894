"""Handlers and event types that are switched off in one portal are not admitted for it."""

import orjson
import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import classify
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from spokes.intake.portal_restrictions import PortalAllowLists
from spokes.portals.profile import PortalProfile
from spokes.portals.published_profiles import PublishedProfiles, publish
from spokes.routing import Router
from spokes.tools import Tools
from tests.support.events import event

PORTAL, OTHER = 701, 702
KEYS = EventKeys(b"secret")


def router() -> Router:
    routes = Router()

    @routes.register("contact.creation")
    async def greet(event: Event, tools: Tools) -> None: ...

    @routes.register("contact.propertyChange")
    async def clean(event: Event, tools: Tools) -> None: ...

    return routes


async def admitted(redis: Redis, profile: PortalProfile, portal_id: int = PORTAL) -> list[str]:
    """Return the types of the events that are queued for a portal, the same on both ways of classification."""
    routes = router()
    allow_list = AllowList(routes.registrations)
    lists = PortalAllowLists(allow_list, routes, (), PublishedProfiles(redis))
    await publish(redis, [profile])
    await lists.refresh()
    elements = [
        event(1, portalId=portal_id, subscriptionType="contact.creation"),
        event(2, portalId=portal_id, subscriptionType="contact.propertyChange", propertyName="city", propertyValue="x"),
    ]
    body = orjson.dumps(elements)
    slow = classify(parse_body(body), allow_list=allow_list, keys=KEYS, portal_ids=(), now_ms=1)
    fast = FastPath(allow_list, KEYS, ()).classify(body, 1)
    found = [Event(dict(each.element)).type for delivery in slow for each in delivery.events]
    assert fast is None or [len(delivery.events) for delivery in fast] == [len(found)]
    assert sum(sum(delivery.ignored.values()) for delivery in slow) == len(elements) - len(found)
    return found


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        ({}, ["contact.creation", "contact.propertyChange"]),
        ({"handlers": ("test_portal_restrictions.greet",)}, ["contact.creation"]),
        ({"handlers": ("-test_portal_restrictions.greet",)}, ["contact.propertyChange"]),
        ({"events": ("contact.propertyChange:city",)}, ["contact.propertyChange"]),
        ({"events": ("-contact.propertyChange",)}, ["contact.creation"]),
        ({"events": ("deal.creation",)}, []),
        ({"name": "Nordlys"}, ["contact.creation", "contact.propertyChange"]),
    ],
)
async def test_events_are_admitted_as_the_portal_allows(
    redis: Redis, fields: dict[str, tuple[str, ...]], types: list[str]
) -> None:
    assert await admitted(redis, PortalProfile(PORTAL, **fields)) == types  # type: ignore[arg-type]  # of each case


async def test_other_portals_are_not_restricted(redis: Redis) -> None:
    profile = PortalProfile(PORTAL, handlers=("-test_portal_restrictions.greet",))
    assert await admitted(redis, profile, OTHER) == ["contact.creation", "contact.propertyChange"]
