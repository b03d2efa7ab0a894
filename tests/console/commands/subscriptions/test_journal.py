"""`subscriptions journal plan|apply`, on the simulated API and a real audit store."""

import asyncio
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.core import clock
from spokes.core.redis.keys import REGISTRATIONS
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.gaps.gap import GapCause
from spokes.gaps.ledger import GapLedger
from spokes.portals.store import PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.config import JournalConfig
from tests.console.commands.subscriptions.push_app import HANDLER, NUMBERS
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import ROOT

PORTAL = 50112233
FILTER = {"conditions": [{"filterType": "CRM_OBJECT_PROPERTY", "property": "stage", "operator": "EQ", "value": "won"}]}
FOREIGN = {"subscriptionType": "OBJECT", "portalId": PORTAL, "objectTypeId": "0-1"}


class App:
    """The HubSpot app of a test, and the commands that change its subscriptions to the journal."""

    def __init__(self, sim: Simulator, environ: dict[str, str], folder: Path, store: AsyncEngine) -> None:
        self.sim = sim
        self.api = sim.journal_subscriptions
        self.environ = environ
        self.store = store
        self._folder = folder
        self.environ |= {
            "HUBSPOT_API_URL": sim.url,
            "HUBSPOT_ACCESS_TOKEN": "",
            "HUBSPOT_CLIENT_ID": sim.config.oauth.client_id,
            "HUBSPOT_CLIENT_SECRET": sim.config.client_secret,
            "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8",
            "PUBLIC_URL": "https://hooks.example.com",
        }

    def register(self, *registrations: str) -> None:
        """Make these the registrations of the deployment."""
        decorators = []
        for registration in registrations:
            event_type, _, name = registration.partition(":")
            decorators.append(f'@ROUTER.register("{event_type}"' + (f', property="{name}")' if name else ")"))
        package = f"subscribing_handlers_{next(NUMBERS)}"
        (self._folder / f"{package}.py").write_text(HANDLER.format(registrations="\n".join(decorators)))
        self.environ["HANDLERS"] = package

    async def run(self, *arguments: str) -> CompletedCommand:
        return await asyncio.to_thread(spokes, self.environ, "subscriptions", "journal", *arguments)

    async def apply(self, *options: str, portal: bool = True) -> CompletedCommand:
        portals = ("--portal", str(PORTAL)) if portal else ()
        return await self.run("apply", "--yes", *portals, *options)

    async def changes(self, *options: str) -> list[str]:
        """Return the lines of the plan."""
        done = await self.run("plan", "--json", "--portal", str(PORTAL), *options)
        return [f"{line['change']} {line['subject']}" for line in map(json.loads, done.stdout.splitlines())]

    async def install(self, portal_id: int, state: PortalState = PortalState.INSTALLED) -> None:
        store = PortalStore(self.store, Vault.from_settings(Settings.from_env(self.environ)))
        await store.save_install(portal_id, Tokens(SecretStr("access"), SecretStr("refresh"), 1), ["oauth"])
        if state is not PortalState.INSTALLED:
            await store.mark(portal_id, state, "test")

    def calls(self) -> Counter[str]:
        """Return how often each call was made since the last time, without ids."""
        paths = (f"{call.method} {call.path.split('/', 3)[-1]}" for call in self.sim.requests)
        counts = Counter(re.sub(r"/\d+$", "/#", path) for path in paths)
        self.sim.requests.clear()
        return counts

    def held(self) -> dict[str, list[str]]:
        """Return actions and properties of each subscription that is for a portal."""
        return {
            f"{each.fields['portalId']} {each.fields['subscriptionType']} {each.fields['objectTypeId']}": [
                *each.fields["actions"], *each.fields.get("properties", []),
            ]
            for each in self.api.subscriptions.values() if "portalId" in each.fields
        }  # fmt: skip

    def subscription(self, target: str = "0-1") -> Any:
        return next(each for each in self.api.subscriptions.values() if each.fields.get("objectTypeId") == target)


@pytest.fixture
async def app(
    hubspot: Simulator, environ: dict[str, str], store: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> App:
    monkeypatch.chdir(tmp_path)
    app = App(hubspot, environ, tmp_path, store)
    app.register("contact.creation", "contact.propertyChange:email", "deal.associationChange")
    return app


def second_post(app: App, behaviour: str) -> None:
    app.api.config = JournalConfig(second_post=behaviour)  # type: ignore[arg-type]  # a test's parameter


async def test_applied_plan_is_empty_and_took_the_fewest_calls(app: App) -> None:
    assert (await app.run("plan", "--portal", str(PORTAL), "--check")).returncode == 1
    app.calls()
    done = await app.apply()
    assert done.returncode == 0, done
    assert app.held() == {
        f"{PORTAL} OBJECT 0-1": ["CREATE", "UPDATE", "email"],
        f"{PORTAL} ASSOCIATION 0-3": ["ASSOCIATION_ADDED", "ASSOCIATION_REMOVED"],
    }
    assert {each.fields.get("eventTypeId") for each in app.api.subscriptions.values()} > {"4-1909196", "4-1916193"}
    assert app.calls() == {"POST token": 1, "GET 2026-09": 1, "POST 2026-09": 4}
    assert await app.changes() == []
    app.calls()
    assert (await app.apply()).returncode == 0
    assert app.calls() == {"POST token": 1, "GET 2026-09": 1}


@pytest.mark.parametrize("behaviour", ["replace", "new_id", "beside", "keep", "conflict"])
async def test_change_succeeds_however_hubspot_answers_a_second_post(app: App, behaviour: str) -> None:
    second_post(app, behaviour)
    app.api.add(**FOREIGN, actions=["DELETE", "UPDATE"], properties=["lastname"]).filters[1] = FILTER
    done = await app.apply()
    assert done.returncode == 0, done
    assert app.held()[f"{PORTAL} OBJECT 0-1"] == ["CREATE", "DELETE", "UPDATE", "email", "lastname"]
    assert len(app.api.subscriptions) == len(app.held()) + 2  # and the two of the whole app
    assert list(app.subscription().filters.values()) == [FILTER]
    assert f"OBJECT 0-1 of portal {PORTAL} has filters of others" in done.stderr
    assert await app.changes() == []
    app.register("deal.associationChange")
    assert (await app.apply()).returncode == 0
    assert app.held()[f"{PORTAL} OBJECT 0-1"] == ["DELETE", "UPDATE", "lastname"]
    assert list(app.subscription().filters.values()) == [FILTER]
    assert await app.changes() == []


async def test_subscription_that_holds_more_than_is_needed_stays_as_it_is(app: App) -> None:
    app.api.add(**FOREIGN, actions=["CREATE", "UPDATE", "MERGE"], properties=[])
    app.register("contact.creation", "contact.propertyChange:email")
    await app.apply()
    assert app.held() == {f"{PORTAL} OBJECT 0-1": ["CREATE", "UPDATE", "MERGE"]}
    app.register("contact.merge")
    assert (await app.apply()).returncode == 0
    assert app.held() == {f"{PORTAL} OBJECT 0-1": ["CREATE", "UPDATE", "MERGE"]}


async def test_adopted_parts_are_removed_when_no_handler_needs_them(app: App) -> None:
    app.api.add(**FOREIGN, actions=["CREATE", "UPDATE", "MERGE"], properties=["email"])
    app.register("contact.creation", "contact.propertyChange:email")
    assert (await app.apply("--adopt")).returncode == 0
    assert await app.changes("--adopt") == []
    app.register("deal.creation")
    await app.apply()
    assert app.held() == {f"{PORTAL} OBJECT 0-1": ["MERGE"], f"{PORTAL} OBJECT 0-3": ["CREATE"]}


async def test_subscriptions_of_other_kinds_and_portals_survive(app: App) -> None:
    others = [
        app.api.add(subscriptionType="LIST_MEMBERSHIP", portalId=PORTAL, listIds=[5], actions=["ADDED_TO_LIST"]),
        app.api.add(subscriptionType="OBJECT", portalId=8, objectTypeId="0-1", actions=["DELETE"]),
        app.api.add(subscriptionType="EVENT", portalId=PORTAL, later="field", actions=[]),
        app.api.add(**{**FOREIGN, "objectTypeId": "2-99"}, actions=["CREATE"]),
    ]
    done = await app.apply()
    assert "no handler needs, stay: 4." in done.stderr
    app.register("ticket.creation")
    await app.apply("--without", "8")
    assert all(app.api.subscriptions[each.id] is each for each in others)


async def test_subscription_with_rules_for_single_actions_is_left_to_people(app: App) -> None:
    app.api.add(**FOREIGN, actions=["DELETE"], actionOverrides={"DELETE": {"objectIds": [1]}})
    done = await app.apply()
    assert (done.returncode, "edit it by hand" in done.stderr) == (1, True)
    assert app.held()[f"{PORTAL} OBJECT 0-1"] == ["DELETE"]


async def test_portal_that_uninstalled_the_app_is_cleared_with_one_call(app: App) -> None:
    await app.install(PORTAL)
    await app.install(8)
    assert (await app.apply(portal=False)).returncode == 0
    assert len(app.held()) == 4
    await app.install(8, PortalState.UNINSTALLED)
    app.calls()
    assert (await app.apply(portal=False)).returncode == 0
    assert app.calls() == {"POST token": 1, "GET 2026-09": 1, "DELETE 2026-09/portals/#": 1}
    assert {name.split()[0] for name in app.held()} == {str(PORTAL)}


async def test_refused_deletion_of_a_portal_is_done_one_by_one(app: App) -> None:
    await app.apply()
    app.sim.faults.add(Fault(method="DELETE", path="*/portals/*", status=400))
    done = await app.run("apply", "--yes", "--portal", str(PORTAL), "--without", str(PORTAL))
    assert (done.returncode, app.held()) == (0, {}), done


async def test_portal_with_subscriptions_of_others_is_cleared_one_by_one(app: App) -> None:
    app.api.add(**{**FOREIGN, "objectTypeId": "0-5"}, actions=["CREATE"])
    await app.apply()
    app.calls()
    await app.run("apply", "--yes", "--portal", str(PORTAL), "--without", str(PORTAL))
    assert app.held() == {f"{PORTAL} OBJECT 0-5": ["CREATE"]}
    assert app.calls()["DELETE 2026-09/#"] == 2


@pytest.mark.parametrize("fault", [
    Fault(method="POST", path="*/subscriptions/*", nth=frozenset({1, 2, 3, 4}), status=502, after_effect=True),
    Fault(method="POST", path="*/subscriptions/*", nth=frozenset({2}), status=401),
    Fault(method="POST", path="*/subscriptions/*", nth=frozenset({1}), status=403, after_effect=True),
])  # fmt: skip
async def test_interrupted_apply_is_completed_by_the_next_and_owns_what_it_created(app: App, fault: Fault) -> None:
    app.sim.faults.add(fault)
    await app.apply()
    app.sim.faults.clear()
    assert ((await app.apply()).returncode, await app.changes(), len(app.held())) == (0, [], 2)
    app.register("ticket.creation")
    await app.apply()
    assert app.held() == {f"{PORTAL} OBJECT 0-5": ["CREATE"]}


async def test_replacement_that_ends_after_its_deletion_is_completed_with_what_others_had(app: App) -> None:
    second_post(app, "conflict")
    app.api.add(**FOREIGN, actions=["DELETE"], properties=[]).filters[1] = FILTER
    app.sim.faults.add(Fault(method="POST", path="*/subscriptions/2026-09", nth=frozenset({4}), status=403))
    interrupted = await app.apply()
    assert (interrupted.returncode, f"{PORTAL} OBJECT 0-1" in app.held()) == (2, False), interrupted
    app.sim.faults.clear()
    assert (await app.apply()).returncode == 0
    assert app.held()[f"{PORTAL} OBJECT 0-1"] == ["CREATE", "DELETE", "UPDATE", "email"]
    assert list(app.subscription().filters.values()) == [FILTER]
    assert await app.changes() == []


async def test_limited_call_is_repeated_and_a_refused_one_leaves_the_others(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", path="*/subscriptions/*", status=429, retry_after="0", times=2))
    app.sim.faults.add(Fault(method="POST", path="*/subscriptions/*", status=400, nth=frozenset({5})))
    done = await app.apply()
    assert (done.returncode, len(app.api.subscriptions), "Refused: 1." in done.stderr) == (1, 3, True), done
    app.sim.faults.clear()
    assert ((await app.apply()).returncode, await app.changes()) == (0, [])


async def test_expired_token_is_renewed(app: App) -> None:
    app.sim.faults.add(Fault(method="GET", path="*/subscriptions/*", status=401, times=1))
    assert ((await app.apply()).returncode, app.calls()["POST token"]) == (0, 2)


async def test_filters_are_created_and_replaced_and_those_of_others_stay(app: App, tmp_path: Path) -> None:
    file = tmp_path / "filters.json"
    option = ("--filters", str(file))

    def wish(value: str) -> None:
        condition = {"property": "stage", "operator": "EQ", "value": value}
        file.write_bytes(orjson.dumps({"contacts": [[condition]]}))

    wish("open")
    assert (await app.apply(*option)).returncode == 0
    assert await app.changes(*option) == []
    app.subscription().filters[1] = FILTER
    wish("closed")
    assert (await app.apply(*option)).returncode == 0
    values = [each["conditions"][0]["value"] for each in app.subscription().filters.values()]
    assert sorted(values) == ["closed", "won"]
    assert await app.changes(*option) == []
    file.write_text("{}")
    await app.apply(*option)
    assert list(app.subscription().filters.values()) == [FILTER]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "no JSON"),
        ("[]", "no JSON object"),
        ('{"contact": {}}', "is not an array"),
        ('{"contact": [[]]}', "has no conditions"),
        ('{"contact": [[{"property": "a", "operator": "IS"}]]}', "write an operator of"),
        ('{"contact": [[{"property": "a", "operator": "IN", "value": "b"}]]}', "write an operator of"),
        ('{"contact": [[{"operator": "EQ", "value": "b"}]]}', 'no "property"'),
    ],
)
async def test_wrong_filters_are_a_sentence(app: App, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "filters.json").write_text(text)
    done = await app.apply("--filters", "filters.json")
    assert (done.returncode, words in done.stderr, app.held()) == (2, True, {}), done


async def test_events_that_the_journal_lacks_are_named(app: App) -> None:
    app.register("conversation.newMessage", "object.creation", "contact.propertyChange", "contact.privacyDeletion")
    done = await app.apply()
    assert app.held() == {
        f"{PORTAL} OBJECT 0-1": ["UPDATE"], f"{PORTAL} GDPR_PRIVACY_DELETION 0-1": ["GDPR_DELETE"],
    }  # fmt: skip
    assert "The journal has no events conversation.newMessage." in done.stderr
    assert "object.creation" in done.stderr
    assert await app.changes() == []


async def test_wrong_secret_is_a_sentence(app: App) -> None:
    app.environ["HUBSPOT_CLIENT_SECRET"] = "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f9"
    done = await app.apply()
    assert (done.returncode, "gives the app no token" in done.stderr) == (2, True)


async def test_deployment_without_portals_asks_for_one(app: App) -> None:
    app.environ["PORTAL_IDS"] = ""
    done = await app.apply(portal=False)
    assert (done.returncode, "--portal" in done.stderr) == (2, True)


async def test_each_change_is_audited_with_who_and_why(app: App) -> None:
    await app.apply("--reason", "launch")
    rows = await fetch(app.store, RECORDS.select().where(RECORDS.c.action == "subscription.changed"))
    assert {row["reason"] for row in rows} == {"launch"}
    events = {json.loads(str(row["detail"]))["event"] for row in rows}
    assert {"journal OBJECT 0-1", "journal ASSOCIATION 0-3"} <= events


async def test_commands_of_the_page_run(app: App) -> None:
    page = (ROOT / "docs" / "subscriptions.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("spokes subscriptions journal ")]
    assert len(lines) == 3
    await app.install(PORTAL)
    for line in lines:
        done = await app.run(*shlex.split(line)[3:])
        assert done.returncode == 0, (line, done)


async def test_time_without_a_journal_subscription_that_workers_waited_for_is_a_gap_of_the_portal(
    app: App, redis: Redis, store: AsyncEngine
) -> None:
    waited_since = clock.now_ms() - 3_600_000
    for name in ("contact.creation", "contact.propertyChange:email"):
        await redis.hset(REGISTRATIONS, f"registered {name}", waited_since)  # type: ignore[misc]  # redis-py types one class for sync and async
    done = await app.apply()
    (gap,) = await GapLedger.from_settings(Settings.from_env(app.environ), store).list()
    assert (gap.portal_id, gap.scope, gap.since) == (PORTAL, "contact", waited_since), done
    assert gap.causes == (GapCause.SUBSCRIPTION_MISSING,)
    assert "Workers waited for 2 of these events before" in done.stderr
    assert (await app.apply()).returncode == 0
    assert len(await GapLedger.from_settings(Settings.from_env(app.environ), store).list()) == 1


async def test_gap_of_a_journal_subscription_begins_with_the_install_of_its_portal(
    app: App, redis: Redis, store: AsyncEngine
) -> None:
    await redis.hset(REGISTRATIONS, "registered contact.creation", clock.now_ms() - 3_600_000)  # type: ignore[misc]  # as above
    installed_from = clock.now_ms()
    await app.install(PORTAL)
    await app.apply(portal=False)
    (gap,) = await GapLedger.from_settings(Settings.from_env(app.environ), store).list()
    assert installed_from <= gap.since <= gap.until <= clock.now_ms()


async def test_portal_that_has_its_journal_subscriptions_has_no_gap_when_another_gets_them(
    app: App, redis: Redis, store: AsyncEngine
) -> None:
    assert (await app.apply()).returncode == 0
    await redis.hset(REGISTRATIONS, "registered contact.creation", clock.now_ms() - 3_600_000)  # type: ignore[misc]  # as above
    assert (await app.run("apply", "--yes", "--portal", str(PORTAL), "--portal", "7")).returncode == 0
    assert [gap.portal_id for gap in await GapLedger.from_settings(Settings.from_env(app.environ), store).list()] == [7]


async def test_token_endpoint_that_does_not_answer_is_no_fault_of_the_credentials(app: App) -> None:
    app.sim.faults.add(Fault(method="POST", path="*/token", status=503))
    done = await app.run("plan", "--portal", str(PORTAL))
    assert "HubSpot does not answer" in done.stderr, done
    assert "HUBSPOT_CLIENT_SECRET" not in done.stderr
    app.sim.faults.clear()
    app.sim.faults.add(Fault(method="POST", path="*/token", status=503, nth=frozenset({1, 2})))
    assert (await app.run("plan", "--portal", str(PORTAL))).returncode == 0
