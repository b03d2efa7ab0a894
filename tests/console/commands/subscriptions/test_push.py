"""`subscriptions plan|apply` for a legacy public app, on the simulated API and a real audit store."""

import asyncio
import json
import re
import shlex

import pytest
from redis.asyncio import Redis
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import PUSH_SUBSCRIPTIONS, RECORDS
from spokes.core import clock
from spokes.core.redis.keys import PORTALS, REGISTRATIONS
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause
from spokes.gaps.ledger import GapLedger
from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Subscription
from tests.console.commands.subscriptions.push_app import App
from tests.support.command_line import spokes
from tests.support.deployment import ROOT

FOREIGN = Subscription("contact.propertyChange", "lastname")
TARGET = "https://hooks.example.com/webhooks/hubspot"


async def test_applied_plan_is_empty_and_took_the_fewest_calls(app: App) -> None:
    assert (await app.plan()).returncode == 0
    app.sim.requests.clear()
    done = await app.apply()
    assert (done.returncode, app.names) == (0, ["contact.creation", "deal.propertyChange:amount"]), done
    assert app.calls() == {"GET settings": 1, "GET subscriptions": 1, "PUT settings": 1, "POST subscriptions": 2}
    assert (await app.changes()) == []
    assert (await app.plan()).stdout == "HubSpot has all that the handlers need.\n"
    app.sim.requests.clear()
    assert (await app.apply()).returncode == 0
    assert app.calls() == {"GET settings": 1, "GET subscriptions": 1}


async def test_plan_names_each_change_and_its_handler(app: App) -> None:
    lines = (await app.plan()).stdout.splitlines()
    assert f"+ targetUrl {TARGET}" in lines
    name = app.environ["HANDLERS"]
    assert any(line.startswith(f"+ contact.creation: {name}.follow in {name}.py:") for line in lines)
    assert app.names == []
    assert ((await app.plan("--check")).returncode, (await app.plan()).returncode) == (1, 0)


async def test_foreign_subscriptions_survive(app: App) -> None:
    app.sim.subscriptions.add(FOREIGN)
    app.sim.subscriptions.add(Subscription("contact.creation"))
    await app.apply()
    assert app.names == ["contact.creation", "contact.propertyChange:lastname", "deal.propertyChange:amount"]
    app.register("ticket.creation")
    done = await app.apply()
    assert app.names == ["contact.creation", "contact.propertyChange:lastname", "ticket.creation"], done
    assert "no handler needs, stay: 2." in done.stderr


async def test_adopted_subscription_is_deleted_when_no_handler_needs_it(app: App) -> None:
    app.sim.subscriptions.add(FOREIGN)
    app.sim.subscriptions.add(Subscription("contact.creation"))
    assert (await app.apply("--adopt")).returncode == 0
    assert (await app.changes("--adopt")) == []
    app.register("ticket.creation")
    await app.apply()
    assert app.names == ["contact.propertyChange:lastname", "ticket.creation"]


async def test_inactive_subscriptions_are_activated_in_one_call(app: App) -> None:
    app.sim.subscriptions.add(Subscription("object.creation", object_type="0-1", active=False))
    app.sim.subscriptions.add(Subscription("deal.propertyChange", "amount", active=False))
    app.sim.subscriptions.add(Subscription("deal.merge", active=False))
    await app.apply()
    assert app.names == ["deal.propertyChange:amount", "object.creation"]
    calls = app.calls()
    assert (calls["POST subscriptions/batch/update"], calls["POST subscriptions"]) == (1, 0)


async def test_numbered_version_has_its_own_path(app: App) -> None:
    for version in ("v3", "2026-03"):
        app.environ["HUBSPOT_API_VERSION"] = version
        assert (await app.apply()).returncode == 0, version
    assert (await app.changes()) == []


async def test_limited_call_is_repeated_after_the_wait_that_hubspot_names(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", status=429, retry_after="0", times=2))
    assert ((await app.apply()).returncode, len(app.names)) == (0, 2)


async def test_answer_that_is_lost_after_the_effect_makes_no_second_subscription(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", reset=True, after_effect=True, times=1))
    assert ((await app.apply()).returncode, len(app.names)) == (0, 2)
    app.register("ticket.creation")
    await app.apply()
    assert app.names == ["ticket.creation"]


async def test_interrupted_apply_is_completed_by_the_next_and_owns_what_it_created(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", nth=frozenset({1}), status=502, after_effect=True))
    app.sim.faults.add(Fault(method="GET", path="*/subscriptions", nth=frozenset({2}), status=401))
    interrupted = await app.apply()
    assert interrupted.returncode == 2, interrupted
    assert len(app.names) == 1
    app.sim.faults.clear()
    assert ((await app.apply()).returncode, len(app.names), (await app.changes())) == (0, 2, [])
    app.register("ticket.creation")
    await app.apply()
    assert app.names == ["ticket.creation"]


async def test_subscription_of_somebody_else_from_before_an_interrupted_attempt_stays_theirs(
    app: App, store: AsyncEngine
) -> None:
    await app.apply()
    async with write_connection(store) as connection:  # the attempt is an hour older than HubSpot's subscription
        await connection.execute(
            update(PUSH_SUBSCRIPTIONS).values(
                subscription_id=None, changed_at=PUSH_SUBSCRIPTIONS.c.changed_at - 3_600_000
            )
        )
    app.register("ticket.creation")
    await app.apply()
    assert app.names == ["contact.creation", "deal.propertyChange:amount", "ticket.creation"]


async def test_refused_subscription_does_not_keep_the_others_from_being_created(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", status=400, times=1))
    done = await app.apply()
    assert (done.returncode, len(app.names), "The request is not valid" in done.stderr) == (1, 1, True), done
    assert ((await app.apply()).returncode, len(app.names)) == (0, 2)


async def test_activation_that_hubspot_does_not_confirm_is_reported(app: App) -> None:
    app.sim.subscriptions.add(Subscription("contact.creation", active=False))
    app.sim.faults.add(Fault(path="*/batch/update", status=207))
    done = await app.apply()
    assert (done.returncode, "did not activate" in done.stderr) == (1, True), done


async def test_subscription_that_somebody_deleted_is_created_again(app: App) -> None:
    await app.apply()
    app.sim.subscriptions.active = []
    assert (await app.apply()).returncode == 0
    assert (len(app.names), (await app.changes())) == (2, [])


async def test_more_subscriptions_than_hubspot_allows_are_refused_before_any_change(app: App) -> None:
    for number in range(999):
        app.sim.subscriptions.add(Subscription("contact.propertyChange", f"p{number}"))
    done = await app.apply()
    assert (done.returncode, "would have 1001 subscriptions" in done.stderr) == (2, True)
    assert len(app.sim.subscriptions.active) == 999


async def test_own_deletions_make_room_for_new_subscriptions(app: App) -> None:
    await app.apply()
    for number in range(998):
        app.sim.subscriptions.add(Subscription("contact.propertyChange", f"p{number}"))
    app.register("ticket.creation", "ticket.merge")
    assert (await app.apply()).returncode == 0
    assert len(app.sim.subscriptions.active) == 1000


async def test_wrong_key_is_a_sentence_and_the_key_is_nowhere(app: App) -> None:
    app.environ["HUBSPOT_DEVELOPER_API_KEY"] = "a-wrong-key-of-somebody"
    done = await app.apply()
    assert (done.returncode, "refuses the developer API key" in done.stderr) == (2, True)
    assert "a-wrong-key-of-somebody" not in done.stderr + done.stdout


@pytest.mark.parametrize("name", ["HUBSPOT_APP_ID", "HUBSPOT_DEVELOPER_API_KEY"])
async def test_missing_credentials_are_named(app: App, name: str) -> None:
    del app.environ[name]
    done = await app.plan()
    assert (done.returncode, name in done.stderr) == (2, True)


async def test_nothing_is_changed_without_a_confirmation(app: App) -> None:
    assert (await app.run("apply")).returncode != 0
    assert app.names == []


async def test_each_change_is_audited_with_who_and_why(app: App, store: AsyncEngine) -> None:
    await app.apply("--reason", "launch of deals")
    rows = await fetch(store, RECORDS.select().where(RECORDS.c.action == "subscription.changed"))
    details = [json.loads(str(row["detail"])) for row in rows]
    assert [detail["change"] for detail in details] == ["settings", "created", "created"]
    assert details[1]["event"] == "contact.creation"
    assert {row["reason"] for row in rows} == {"launch of deals"}
    assert all(row["actor"] for row in rows)
    assert app.sim.config.developer_key not in str(rows)


async def test_commands_of_the_page_run(app: App) -> None:
    page = (ROOT / "docs" / "subscriptions.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) > 3
    for line in lines:
        words = shlex.split(line)
        if "journal" in words:  # of an app with OAuth: test_journal
            continue
        command = words.index("spokes")
        app.environ |= dict(word.split("=", 1) for word in words[:command])
        done = await asyncio.to_thread(spokes, app.environ, *words[command + 1 :])
        assert done.returncode == 0, (line, done)


async def test_time_without_a_subscription_that_workers_waited_for_is_a_gap(
    app: App, redis: Redis, store: AsyncEngine
) -> None:
    settings = Settings.from_env(app.environ)
    waited_since = clock.now_ms() - 3_600_000
    await redis.hset(REGISTRATIONS, "registered contact.creation", waited_since)  # type: ignore[misc]  # redis-py types one class for sync and async
    await redis.sadd(PORTALS, "7")
    app.sim.subscriptions.add(Subscription("contact.creation", active=False))
    done = await app.apply()
    (gap,) = await GapLedger.from_settings(settings, store).list()
    assert (gap.portal_id, gap.scope, gap.since, gap.causes) == (
        7, "contact", waited_since, (GapCause.SUBSCRIPTION_MISSING,)
    ), done  # fmt: skip
    assert "`spokes gaps list` shows since when" in done.stderr
    assert (await app.apply()).returncode == 0
    assert len(await GapLedger.from_settings(settings, store).list()) == 1


async def test_subscription_of_a_handler_that_no_worker_has_had_is_no_gap(
    app: App, redis: Redis, store: AsyncEngine
) -> None:
    assert (await app.apply()).returncode == 0
    assert await GapLedger.from_settings(Settings.from_env(app.environ), store).list() == []


async def test_applied_plan_without_redis_says_that_no_gap_is_reported(app: App) -> None:
    app.environ["REDIS_URL"] = "redis://127.0.0.1:1/0"
    done = await app.apply()
    assert (done.returncode, "no gap is reported" in done.stderr) == (0, True), done


async def test_gap_is_reported_before_the_first_change(app: App, redis: Redis, store: AsyncEngine) -> None:
    await redis.hset(REGISTRATIONS, "registered contact.creation", clock.now_ms() - 3_600_000)  # type: ignore[misc]  # redis-py types one class for sync and async
    app.sim.faults.add(Fault(status=403, method="POST", path="*/subscriptions"))
    assert (await app.apply()).returncode != 0
    assert len(await GapLedger.from_settings(Settings.from_env(app.environ), store).list()) == 1
