"""`subscriptions drift` on what a web process has counted, and the alert and the page that show the same."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.console.accounts.policy import Role
from spokes.core import clock
from spokes.core.settings import Settings
from spokes.queue.token_scopes import report_scopes
from tests.support.command_line import CompletedCommand, spokes
from tests.support.console_visitor import Visitor, visible_text
from tests.support.deployment import ROOT, Sign, WebProcessServer
from tests.support.events import event
from tests.support.registrations import register
from workers.upkeep.gaps.subscription_watch import watch_subscriptions

Send = Callable[..., Awaitable[None]]


@pytest.fixture
def send(environ: dict[str, str], redis: Redis, sign: Sign) -> Send:
    """Send events to a web process, which stores what it counted when it ends."""

    async def deliver(*events: dict[str, object]) -> None:
        async with TestClient(WebProcessServer(Settings.from_env(environ))) as client:
            body = orjson.dumps(list(events))
            async with client.post("/webhooks/hubspot", data=body, headers=sign(body)) as response:
                assert response.status == 202

    return deliver


async def drift(environ: dict[str, str], *options: str) -> CompletedCommand:
    return await asyncio.to_thread(spokes, environ, "subscriptions", "drift", *options)


async def found(environ: dict[str, str], *options: str) -> dict[str, list[str]]:
    """Return the subjects of each drift."""
    subjects: dict[str, list[str]] = {}
    for line in (await drift(environ, "--json", *options)).stdout.splitlines():
        if "drift" in (fields := json.loads(line)):
            subjects.setdefault(fields["drift"], []).append(fields["subject"])
    return subjects


@pytest.fixture(autouse=True)
def _in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handlers").symlink_to(ROOT / "handlers")
    monkeypatch.chdir(tmp_path)


async def test_healthy_deployment_is_silent(environ: dict[str, str], migrated_store: None, send: Send) -> None:
    await send(event(1))
    done = await drift(environ)
    assert done.returncode == 0, done
    assert "What arrives is what the handlers register for." in done.stderr
    (row,) = (line for line in done.stdout.splitlines() if "contact.creation" in line)
    assert "contacts.keep_reachable" in row
    assert "never" not in row


async def test_time_of_the_last_event_is_that_of_its_request(
    environ: dict[str, str], migrated_store: None, send: Send
) -> None:
    before = clock.now_ms()
    await send(event(1))
    lines = [json.loads(line) for line in (await drift(environ, "--json")).stdout.splitlines()]
    times = {line["registration"]: line["last_event_at"] for line in lines}
    assert before <= times.pop("contact.creation") <= clock.now_ms()
    assert set(times.values()) == {None}


async def test_events_without_registration_are_counted_and_fail_the_command(
    environ: dict[str, str], migrated_store: None, send: Send
) -> None:
    await send(event(1, subscriptionType="ticket.deletion"), event(2, subscriptionType="ticket.deletion"))
    await send(event(3, subscriptionType="object.propertyChange", objectTypeId="0-5", propertyName="subject"))
    done = await drift(environ)
    assert done.returncode == 1
    assert await found(environ) == {"unregistered": ["ticket.deletion", "ticket.propertyChange:subject"]}
    assert "2 in 7 days" in done.stdout
    assert "unregistered: HubSpot sends these events and no handler registers for them." in done.stderr


async def test_portal_that_is_not_served_is_named(environ: dict[str, str], migrated_store: None, send: Send) -> None:
    environ["PORTAL_IDS"] = "50112233"
    await send(event(1), event(2, portalId=8))
    assert await found(environ) == {"unserved_portal": ["portal 8"]}


async def test_registration_that_waits_is_a_fault_once_other_events_arrive(
    environ: dict[str, str], redis: Redis, migrated_store: None, send: Send
) -> None:
    await register(redis, 8)
    await send(event(1))
    never = (await found(environ))["never_arrived"]
    assert "contact.creation" not in never
    assert "company.creation" in never


async def test_scope_that_the_token_lacks_is_named(environ: dict[str, str], redis: Redis, migrated_store: None) -> None:
    await report_scopes(redis, 50112233, ["oauth"])
    assert "crm.objects.contacts.read of portal 50112233" in (await found(environ))["scope_missing"]


async def test_project_with_another_target_url_is_named(
    environ: dict[str, str], redis: Redis, migrated_store: None, tmp_path: Path
) -> None:
    old = {**environ, "PUBLIC_URL": "https://last-year.example.com"}
    assert (await asyncio.to_thread(spokes, old, "subscriptions", "export", "--to", "apps/")).returncode == 0
    url = f"{environ['PUBLIC_URL']}/webhooks/hubspot"
    assert await found(environ, "--project", "apps") == {"project_differs": [f"~ targetUrl {url}"]}
    assert await found(environ) == {}


async def test_broken_project_is_a_sentence(environ: dict[str, str], migrated_store: None, tmp_path: Path) -> None:
    (tmp_path / "hubspot").mkdir()
    (tmp_path / "hubspot/hsproject.json").write_text("{")
    done = await drift(environ)
    assert (done.returncode, "hsproject.json:1" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


async def test_alert_is_active_while_something_is_missing(
    environ: dict[str, str], redis: Redis, sqlite_engine: AsyncEngine, migrated_store: None
) -> None:
    settings, episodes = Settings.from_env(environ), AlertEpisodes(redis)
    await register(redis, 2)
    await watch_subscriptions(settings, redis, sqlite_engine, episodes, ())
    assert await episodes.active("subscriptions_drifted") == ["subscriptions_drifted"]
    await register(redis, 0)
    await watch_subscriptions(settings, redis, sqlite_engine, episodes, ())
    assert await episodes.active("subscriptions_drifted") == []


async def test_page_shows_drifts_and_registrations(client: TestClient, redis: Redis, migrated_store: None) -> None:
    await register(redis, 2)
    status, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/subscriptions")
    text = visible_text(page)
    assert status == 200
    assert "loses events target never reached No event of HubSpot has ever come." in text
    assert "contact.creation" in text
    _, page = await (await Visitor.signed_in(client, Role.OPERATOR, portals=(7,))).get("/console/subscriptions")
    assert "you may see only some" in visible_text(page)
