"""Settings of single portals: stored in SQL, published to Redis, read by every process."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.core.errors import SecretUnreadable, UnreadableDelivery
from spokes.core.redis.keys import PORTAL_PROFILES
from spokes.core.vault import Vault
from spokes.portals.profile import AccountDetails, PortalProfile, is_switched_on
from spokes.portals.profile_store import ProfileStore, opened_values
from spokes.portals.published_profiles import PublishedProfiles, publish

KEY, NEWER_KEY = "key-of-the-vault-that-is-long-enough", "newer-key-of-the-vault-long-enough"
FULL = PortalProfile(
    7, "Nordlys", "Europe/Oslo", "NOK", "NO", ("contacts.greet",), ("-deal.merge",), "sealed",
    AccountDetails("Nordlys AS", "UTC", "EUR"),
)  # fmt: skip


@pytest.fixture
async def store(engine: AsyncEngine) -> ProfileStore:
    await schema.upgrade(engine)
    return ProfileStore(engine, Vault([KEY]))


@pytest.mark.parametrize("profile", [PortalProfile(7), FULL])
def test_profile_survives_its_stored_form(profile: PortalProfile) -> None:
    assert PortalProfile.from_json(7, profile.to_json()) == profile


def test_fields_of_later_versions_are_left_out() -> None:
    assert PortalProfile.from_json(7, b'{"name":"x","later":1}') == PortalProfile(7, "x")


@pytest.mark.parametrize("stored", ["", "[]", "7", '{"account":7}', '{"handlers":7}'])
def test_unreadable_profile_is_refused(stored: str) -> None:
    with pytest.raises(UnreadableDelivery):
        PortalProfile.from_json(7, stored)


def test_unknown_time_zone_counts_as_unset() -> None:
    assert PortalProfile.from_json(7, '{"time_zone":"Mars/Olympus"}').zone.key == "UTC"


@pytest.mark.parametrize("details", [{}, {"timeZone": "Mars/X", "companyCurrency": 7, "portalName": None}])
def test_account_details_that_hubspot_does_not_say_are_empty(details: dict[str, object]) -> None:
    assert AccountDetails.from_details(details) == AccountDetails()


@pytest.mark.parametrize(
    ("switches", "is_on"), [((), True), (("a.b",), True), (("a.c",), False), (("-a.b",), False), (("-a.c",), True)]
)
def test_handlers_are_switched_by_name(switches: tuple[str, ...], is_on: bool) -> None:
    assert is_switched_on(switches, "a.b") is is_on


async def test_changes_at_the_same_time_are_all_kept(store: ProfileStore) -> None:
    def adding(number: int) -> Callable[[PortalProfile], PortalProfile]:
        return lambda profile: replace(profile, events=(*profile.events, f"type{number}.creation"))

    for first in (0, 8):  # without a stored profile, then with one
        async with asyncio.TaskGroup() as tasks:
            for number in range(first, first + 8):
                tasks.create_task(store.change(7, adding(number)))
    assert len((await store.read(7)).events) == 16


async def test_emptied_profile_is_listed_no_more(store: ProfileStore) -> None:
    await store.change(7, lambda profile: replace(profile, region="NO"))
    await store.change(7, lambda _: PortalProfile(7))
    assert (await store.read_all(), (await store.read(7)).is_empty) == ([], True)


async def test_change_is_stored(store: ProfileStore) -> None:
    await store.change(7, lambda _: FULL)
    assert (await store.read(7), await store.read_all()) == (FULL, [FULL])
    assert await store.read(8) == PortalProfile(8)


async def test_profile_without_content_leaves_no_row(store: ProfileStore) -> None:
    await store.change(7, lambda _: FULL)
    await store.change(7, lambda _: PortalProfile(7))
    assert await store.read_all() == []


async def test_own_settings_are_sealed_and_resealed(store: ProfileStore) -> None:
    await store.change(7, lambda profile: store.with_values(profile, {"erp_key": "canary"}))
    stored = await store.read(7)
    assert "canary" not in stored.to_json()
    rotated = ProfileStore(store.engine, Vault([NEWER_KEY, KEY]))
    assert (await rotated.reseal(), await rotated.reseal()) == ((1, []), (0, []))
    assert opened_values(Vault([NEWER_KEY]), await store.read(7)) == {"erp_key": "canary"}
    with pytest.raises(SecretUnreadable):
        store.values(await store.read(7))
    assert await store.reseal() == (0, [7])


async def test_published_profiles_are_read_when_they_change(redis: Redis) -> None:
    profiles = PublishedProfiles(redis)
    assert (await publish(redis, [FULL]), await publish(redis, [FULL])) == (True, False)
    assert (await profiles.refresh(), await profiles.refresh()) == (True, False)
    assert (profiles.get(7), profiles.restricted) == (FULL, frozenset({7}))
    await publish(redis, [PortalProfile(7, "other")])
    await profiles.refresh()
    assert (profiles.get(7), profiles.restricted) == (PortalProfile(7, "other"), frozenset())


async def test_known_profiles_stay_while_redis_has_lost_them(redis: Redis) -> None:
    profiles = PublishedProfiles(redis)
    await publish(redis, [FULL])
    await profiles.refresh()
    await redis.flushall()
    await profiles.refresh()
    assert profiles.restricted == frozenset({7})
    assert await publish(redis, [FULL])


async def test_unreadable_profile_costs_no_other_its_settings(redis: Redis) -> None:
    await publish(redis, [FULL])
    bad = orjson.dumps({"handlers": 7}).decode()
    await redis.hset(PORTAL_PROFILES, mapping={"8": bad, "none": "x"})  # type: ignore[misc]  # redis-py types one class for sync and async
    profiles = PublishedProfiles(redis)
    await profiles.refresh()
    assert (profiles.get(7), profiles.get(8)) == (FULL, PortalProfile(8))
