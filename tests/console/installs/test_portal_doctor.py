"""`doctor --portal`: what keeps the events of one portal from running, as a command on a real deployment."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis import keys
from spokes.portals.store import PortalState, PortalStore
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.console.installs.conftest import Customer
from tests.console.installs.test_portal_pages import install
from tests.support.command_line import spokes, spokes_process
from tests.support.hubspot.oauth_hubspot import PORTAL, OAuthHubSpot

_ID = 11


async def findings(
    environ: dict[str, str], portal_id: int = _ID, run: Callable[..., Any] = spokes
) -> tuple[int, str, dict[str, str]]:
    """Return exit code, all sentences, and the level of each sentence."""
    result = await asyncio.to_thread(run, environ, "doctor", "--portal", str(portal_id), "--json")
    lines = [orjson.loads(line) for line in result.stdout.splitlines()]
    return result.returncode, result.stdout, {line["sentence"]: line["level"] for line in lines}


async def announce(redis: Redis, portal_id: int) -> None:
    """Let a worker have the portal's credentials."""
    await redis.zadd(keys.CREDENTIAL_PORTALS, {str(portal_id): time.time() + 60})


async def test_healthy_portal_has_no_problem(
    oauth_environ: dict[str, str], redis: Redis, customer: Customer, hubspot: OAuthHubSpot
) -> None:
    await customer.install()
    await announce(redis, PORTAL)
    code, text, levels = await findings(oauth_environ, PORTAL, run=spokes_process)
    assert (code, {sentence: level for sentence, level in levels.items() if level != "ok"}) == (0, {})
    assert "HubSpot accepts its access token" in text
    hubspot.forget(PORTAL)
    _, text, _ = await findings(oauth_environ, PORTAL, run=spokes_process)
    assert "HubSpot does not accept its access token any more" in text


async def test_unknown_portal_is_a_fault(oauth_environ: dict[str, str], redis: Redis, store: PortalStore) -> None:
    code, text, _ = await findings(oauth_environ, 99)
    assert (code, "unknown here" in text) == (1, True)


async def test_portal_that_no_worker_serves_is_a_fault(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, _ID)
    code, text, _ = await findings(oauth_environ)
    assert (code, "No running worker has the credentials" in text) == (1, True)


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (PortalState.NEEDS_REINSTALL, 1, "open the install link again"),
        (PortalState.UNINSTALLED, 0, "its events are discarded"),
    ],
)
async def test_ended_install_is_named(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore, state: PortalState, code: int, words: str
) -> None:
    await install(store, _ID)
    await store.mark(_ID, state, "bad_refresh_token")
    found = await findings(oauth_environ)
    assert (found[0], words in found[1], "bad_refresh_token" in found[1]) == (code, True, True)


async def test_waiting_and_failed_work_is_named(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, _ID, scopes=("oauth",))
    await announce(redis, _ID)
    await redis.zadd(keys.QUEUES["interactive"], {f"{_ID}-1-a": clock.now_ms() - 300_000})
    await redis.zadd(keys.dead_letters_by_time(_ID), {"k": 1})
    await PortalPauses(redis).operator_pause(_ID, actor="ada", reason="x", is_known=True)
    await PortalPauses(redis).operator_pause(12, actor="ada", reason="other", is_known=True)
    _, text, levels = await findings(oauth_environ)
    for words in ("1 events are dead letters", "has been due for 3", "is paused", "lacks the scopes"):
        assert words in text, words
    assert not [sentence for sentence in levels if "portal 12" in sentence.casefold()]


async def test_switches_and_own_settings_are_assessed(
    own_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, _ID)
    await announce(redis, _ID)
    code, text, levels = await findings(own_environ)
    assert (code, "greeting is not set" in text) == (1, True)
    arguments = ("--handlers", "-contacts.greet", "--setting", "greeting=canary", "--events", "contact.creation")
    assert spokes(own_environ, "portals", "set", str(_ID), *arguments).returncode == 0
    code, text, levels = await findings(own_environ)
    assert (code, "No handler is switched on" in text, "canary" in text) == (0, True, False)
    assert levels["Only these event types are queued: contact.creation."] == "info"
    code, text, _ = await findings({**own_environ, "SECRETS_KEY": "another-key-of-the-vault-that-is-long"})
    assert (code, "No key of SECRETS_KEY opens" in text) == (1, True)


async def test_portal_that_portal_ids_excludes_is_a_fault(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    await install(store, _ID)
    code, text, _ = await findings({**oauth_environ, "PORTAL_IDS": "12"})
    assert (code, "PORTAL_IDS does not list the portal" in text) == (1, True)
