"""`portals list|show|pause|disconnect`, run as commands."""

import asyncio

import orjson
import pytest
from redis.asyncio import Redis

from spokes.portals.store import PortalState, PortalStore
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.console.installs.test_disconnecting import connect
from tests.console.installs.test_portal_pages import install
from tests.support.command_line import spokes
from tests.support.events import recorded
from tests.support.hubspot.oauth_hubspot import PORTAL, OAuthHubSpot


async def test_portals_are_listed_by_state(oauth_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    await install(store, 11, 12)
    await store.mark(12, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    result = spokes(oauth_environ, "portals", "list", "--state", "needs_reinstall", "--json")
    [line] = map(orjson.loads, result.stdout.splitlines())
    assert (line["portal_id"], line["state"], line["reason"]) == (12, "needs_reinstall", "bad_refresh_token")
    assert "needs_reinstall" in spokes(oauth_environ, "portals", "list").stdout


async def test_portals_are_searched_and_listed_in_pages(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, *range(1, 31), name="shop")
    await install(store, 31, name="other")
    pages = [
        spokes(oauth_environ, "portals", "list", "--search", "sh", "--limit", "20", "--page", page, "--json").stdout
        for page in ("1", "2", "3")
    ]
    found = [[orjson.loads(line)["portal_id"] for line in page.splitlines() if line[:1] == "{"] for page in pages]
    assert found == [list(range(1, 21)), list(range(21, 31)), []]


async def test_wrong_state_names_the_states(oauth_environ: dict[str, str], redis: Redis) -> None:
    result = spokes(oauth_environ, "portals", "list", "--state", "gone")
    assert (result.returncode, "must be one of installed" in result.stderr) == (2, True)


async def test_portal_is_shown(oauth_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    await install(store, 11, name="Nordlys AS")
    result = spokes(oauth_environ, "portals", "show", "11")
    assert result.returncode == 0
    assert "Nordlys AS" in result.stdout
    assert spokes(oauth_environ, "portals", "show", "12").returncode == 1


async def test_name_of_a_portal_is_set_and_audited_without_it(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, 11)
    assert (
        spokes(oauth_environ, "portals", "set", "11", "--name", "Nordlys AS").stdout
        == "Portal 11 is called Nordlys AS.\n"
    )
    portal = await store.get(11)
    assert portal is not None
    assert portal.name == "Nordlys AS"
    [record] = await recorded(redis)
    assert (record.action, record.portal_id, record.detail) == ("portal.changed", 11, {"changed": ["name"]})


@pytest.mark.parametrize("arguments", [("11", "--name", "x" * 101), ("11", "--name", "a\x07b"), ("12", "--name", "x")])
async def test_wrong_name_or_portal_is_refused(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore, arguments: tuple[str, ...]
) -> None:
    await install(store, 11)
    assert spokes(oauth_environ, "portals", "set", *arguments).returncode == 2
    assert await recorded(redis) == []


async def test_name_survives_a_new_install(oauth_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    await install(store, 11, name="Nordlys AS")
    await install(store, 11)
    assert "Nordlys AS" in spokes(oauth_environ, "portals", "show", "11").stdout


async def test_installed_portal_is_paused_before_it_has_events(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, 11)
    assert spokes(oauth_environ, "portals", "pause", "11", "--reason", "by hand").returncode == 0
    assert list(await PortalPauses(redis).list()) == [11]
    assert spokes(oauth_environ, "portals", "pause", "12").returncode == 2


async def test_portal_is_disconnected_after_confirmation(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    await connect(store, hubspot)
    arguments = ("portals", "disconnect", str(PORTAL), "--reason", "contract ended")
    assert spokes(oauth_environ, *arguments).returncode != 0  # nobody confirms
    assert await store.tokens(PORTAL) is not None
    result = await asyncio.to_thread(spokes, oauth_environ, *arguments, "--yes")
    assert (result.stderr, result.stdout) == ("", f"Portal {PORTAL} is disconnected.\n")
    assert await store.tokens(PORTAL) is None
    assert [(record.action, record.reason) for record in await recorded(redis)] == [
        ("portal.uninstalled", "contract ended")
    ]


async def test_hubspot_that_does_not_answer_leaves_the_portal_connected(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    await connect(store, hubspot)
    hubspot.failures["uninstall"] = [(503, {})]
    result = await asyncio.to_thread(spokes, oauth_environ, "portals", "disconnect", str(PORTAL), "--yes")
    assert (result.returncode, "still connected" in result.stderr) == (2, True)
    assert await store.tokens(PORTAL) is not None


async def test_disconnecting_an_unknown_portal_says_so(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    result = spokes(oauth_environ, "portals", "disconnect", "7", "--yes")
    assert (result.returncode, result.stderr) == (2, "Portal 7 has not installed the app. Nothing was done.\n")
