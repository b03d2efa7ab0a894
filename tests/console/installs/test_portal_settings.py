"""`portals set` and `portals show`: what is different for one portal."""

import asyncio

import orjson
import pytest
from redis.asyncio import Redis

from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import PublishedProfiles
from spokes.portals.store import PortalStore
from tests.console.installs.test_portal_pages import install
from tests.support.command_line import spokes, spokes_process
from tests.support.events import recorded


async def test_settings_are_stored_published_and_audited(
    own_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, 11)
    arguments = (
        "--handlers", "contacts.greet", "--events", "contact.creation", "--region", "NO", "--time-zone", "Europe/Oslo",
        "--currency", "nok", "--setting", "greeting=Hei canary",
    )  # fmt: skip
    result = spokes(own_environ, "portals", "set", "11", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    assert (orjson.loads(result.stdout)["currency"], "canary" in result.stdout) == ("NOK", False)
    profiles = PublishedProfiles(redis)
    await profiles.refresh()
    profile = profiles.get(11)
    assert (profile.handlers, profile.events, profile.region, profile.zone.key, profile.currency) == (
        ("contacts.greet",), ("contact.creation",), "NO", "Europe/Oslo", "NOK",
    )  # fmt: skip
    assert ProfileStore(store.engine, store.vault).values(profile) == {"greeting": "Hei canary"}
    [record] = await recorded(redis)
    assert record.detail == {
        "changed": ["handlers", "events", "region", "time_zone", "currency", "setting greeting"]
    }  # fmt: skip
    shown = spokes(own_environ, "portals", "show", "11")
    assert ("Europe/Oslo" in shown.stdout, "greeting" in shown.stdout, "canary" in shown.stdout) == (True, True, False)


async def test_empty_text_ends_a_setting(own_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    await install(store, 11)
    for region, greeting in (("NO", "Hei"), ("", "")):
        arguments = ("--region", region, "--handlers", "", "--setting", f"greeting={greeting}")
        result = spokes(own_environ, "portals", "set", "11", *arguments)
        assert result.returncode == 0, result.stderr
    profile = await ProfileStore(store.engine, store.vault).read(11)
    assert (profile.region, profile.sealed_values) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing is set"),
        (("--handlers", "contacts.gret"), "Did you mean 'contacts.greet'?"),
        (("--handlers", "contacts.greet,-contacts.greet"), "not both"),
        (("--events", "everything"), "must be event types"),
        (("--region", "Norway"), "country code of two capital letters"),
        (("--time-zone", "Oslo"), "must be a name such as Europe/Oslo"),
        (("--currency", "kroner"), "three letters such as EUR"),
        (("--setting", "greeting"), "must be name=value"),
        (("--setting", "greting=canary"), "Did you mean 'greeting'?"),
        (("--setting", "limit=canary"), "whole number"),
        (("--name", "x" * 101), "at most 100 printable characters"),
    ],
)
async def test_wrong_setting_is_refused_in_a_sentence_without_its_value(
    own_environ: dict[str, str], redis: Redis, store: PortalStore, arguments: tuple[str, ...], sentence: str
) -> None:
    await install(store, 11)
    result = spokes(own_environ, "portals", "set", "11", *arguments)
    text = " ".join(result.stderr.replace("│", "").split())
    assert (result.returncode, sentence in text, "canary" in text) == (2, True, False), result.stderr
    assert await recorded(redis) == []


async def test_unknown_portal_is_refused(own_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    result = spokes(own_environ, "portals", "set", "12", "--region", "NO")
    assert (result.returncode, "Portal 12 is unknown here" in result.stderr) == (2, True)


@pytest.mark.slow  # starts three processes
async def test_changes_at_the_same_time_do_not_undo_each_other(
    own_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, 11)
    changes = (("--region", "NO"), ("--currency", "NOK"), ("--setting", "greeting=Hei"))
    async with asyncio.TaskGroup() as tasks:
        for change in changes:
            tasks.create_task(asyncio.to_thread(spokes_process, own_environ, "portals", "set", "11", *change))
    profile = await ProfileStore(store.engine, store.vault).read(11)
    assert (profile.region, profile.currency, bool(profile.sealed_values)) == ("NO", "NOK", True)
