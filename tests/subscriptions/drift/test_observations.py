"""Everything that drift is decided from, as it is read from Redis, the audit store and a project."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.core.redis.keys import TOKEN_SCOPES
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.queue.token_scopes import report_scopes, reported_scopes
from spokes.subscriptions.drift.observations import Observations, observe, with_project
from spokes.subscriptions.push.ledger import PushLedger
from spokes.subscriptions.subscribed_events import SubscribedEvent
from tests.subscriptions.desired import desired_of

OAUTH = {
    "HUBSPOT_ACCESS_TOKEN": "",
    "HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
    "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
}
CREATION, MERGE = SubscribedEvent("contact", "creation"), SubscribedEvent("contact", "merge")


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncEngine:
    """An audit store with its tables."""
    await schema.upgrade(engine)
    return engine


async def test_scopes_are_those_of_tokens_and_of_installed_portals(
    environ: dict[str, str], redis: Redis, store: AsyncEngine
) -> None:
    settings = Settings.from_env({**environ, **OAUTH})
    portals = PortalStore(store, Vault.from_settings(settings))
    for portal_id in (7, 8):
        await portals.save_install(
            portal_id, Tokens(SecretStr("access"), SecretStr("refresh"), 1), ["crm.objects.deals.read"]
        )
    await portals.mark(8, PortalState.UNINSTALLED, "test")
    await report_scopes(redis, 9, ["oauth", "tickets"])
    seen = await observe(settings, redis, store)
    assert seen.scopes == {"portal 7": {"crm.objects.deals.read"}, "portal 9": {"oauth", "tickets"}}


async def test_subscriptions_of_the_ledger_are_ours_once_they_are_confirmed(
    environ: dict[str, str], redis: Redis, store: AsyncEngine
) -> None:
    settings = Settings.from_env({**environ, "HUBSPOT_APP_ID": "7788990"})
    ledger = PushLedger.from_settings(settings, store, "ada")
    await ledger.begin(MERGE)
    await ledger.confirm(CREATION, 1, "created")
    seen = await observe(settings, redis, store)
    assert seen.owned == seen.subscribed == {"contact.creation"}


async def test_unreadable_report_of_scopes_costs_itself_alone(redis: Redis) -> None:
    await report_scopes(redis, 7, ["oauth"])
    await redis.hset(TOKEN_SCOPES, mapping={"8": "soon", "x": "{}", "9": '{"at": 1, "scopes": []}'})  # type: ignore[misc]
    assert await reported_scopes(redis) == {7: {"oauth"}}


def project(folder: Path, *, active: bool, target_url: str) -> None:
    """Write a project that subscribes to creations of contacts, and to restores for somebody else."""
    (folder / "src").mkdir()
    (folder / "hsproject.json").write_text(json.dumps({"name": "p", "srcDir": "src", "platformVersion": "2026.03"}))
    subscriptions = {
        "legacyCrmObjects": [{"subscriptionType": "contact.creation", "active": active}],
        "crmObjects": [{"subscriptionType": "object.restore", "objectType": "contact", "active": True}],
    }
    settings = {"targetUrl": target_url, "maxConcurrentRequests": 10}
    config = {"settings": settings, "subscriptions": subscriptions}
    (folder / "src/webhooks-hsmeta.json").write_text(json.dumps({"type": "webhooks", "config": config}))
    auth = {"type": "static", "requiredScopes": ["crm.objects.contacts.read"]}
    (folder / "src/app-hsmeta.json").write_text(json.dumps({"type": "app", "config": {"auth": auth}}))
    (folder / "spokes-export.json").write_text(json.dumps({"subscriptions": ["contact.creation"], "scopes": []}))


def test_project_says_what_is_subscribed_and_whose_it_is(tmp_path: Path) -> None:
    desired = desired_of("contact.creation")
    project(tmp_path, active=True, target_url=desired.target_url)
    seen = with_project(Observations(1), tmp_path, desired)
    assert (seen.subscribed, seen.owned, seen.project_changes) == (
        {"contact.creation", "contact.restore"}, {"contact.creation"}, {},
    )  # fmt: skip


def test_project_that_an_export_would_change_is_named_with_what(tmp_path: Path) -> None:
    project(tmp_path, active=False, target_url="https://last-year.example.com")
    seen = with_project(Observations(1), tmp_path, desired_of("contact.creation"))
    assert list(seen.project_changes) == [
        "~ targetUrl https://hooks.example.com/webhooks/hubspot", "~ contact.creation active",
    ]  # fmt: skip
    assert (seen.subscribed, seen.owned) == ({"contact.restore"}, set())


def test_deployment_without_a_project_has_no_observations_of_one(tmp_path: Path) -> None:
    assert with_project(Observations(1), tmp_path, desired_of("contact.creation")) == Observations(1)
