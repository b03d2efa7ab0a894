"""`doctor`: plain sentences on everything, and exit 1 exactly for what would lose an event."""

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.rows import Row
from spokes.console.doctor.audit_store_check import assess_chain_end, check_audit_store
from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.console.doctor.hubspot_check import assess_scopes, assess_usage
from spokes.console.doctor.process_check import ProcessState, assess_persistence, assess_processes, assess_secret_ages
from spokes.console.doctor.receiver_check import assess_public_url, check_receiver
from spokes.console.doctor.redis_check import Backlog, assess_backlog, assess_server
from spokes.console.doctor.report import run_checks, settings_findings, summarise_defaults
from spokes.console.queries.alerts import ActiveAlert as Alert
from spokes.core import clock
from spokes.core.delivery import JOB_QUEUE, Entry
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.signature import sign_request, verify
from spokes.core.telemetry import alerts
from spokes.core.telemetry.alerts import ALERT_TEXTS
from spokes.core.telemetry.secret_ages import secret_ages
from spokes.crm.scopes import Declaration
from spokes.crm.transport.token_info import TokenInfo
from spokes.queue.dead_letters import DeadLetter
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from spokes.simulator.portal import TokenState
from tests.support.command_line import spokes
from tests.support.deployment import PUBLIC_URL, SECRET, TOKEN
from tests.support.events import event
from workers.upkeep.anomaly_watch import watch_secrets

SOUND = {
    "redis_version": "7.2.4", "valkey_version": "9.1.0", "maxmemory_policy": "noeviction", "aof_enabled": 1,
    "used_memory": 2**20, "maxmemory": 10 * 2**20, "aof_last_write_status": "ok",
}  # fmt: skip


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


def levels(findings: list[Finding]) -> dict[str, str]:
    """The gravest level of each topic."""
    order = list(FindingLevel)
    found: dict[str, FindingLevel] = {}
    for finding in findings:
        found[finding.topic] = max(found.get(finding.topic, FindingLevel.OK), finding.level, key=order.index)
    return {topic: level.value for topic, level in found.items()}


async def test_sound_deployment_has_no_faults(environ: dict[str, str], hubspot: Simulator, redis: Redis) -> None:
    """But the door, which is not reachable from a test, and the store, which nobody has migrated."""
    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}))

    assert levels(findings) == {
        "settings": "ok", "redis": "ok", "queue": "ok", "dead letters": "ok",
        "alerts": "ok", "processes": "warning", "secrets": "ok",
        "audit store": "warning", "kept secrets": "ok", "hubspot": "warning", "door": "warning",
    }  # fmt: skip


def test_command_exits_with_1_for_a_fault_and_shows_no_secret(environ: dict[str, str]) -> None:
    environ = {**environ, "REDIS_URL": "redis://:pass-word@127.0.0.1:1", "HUBSPOT_ACCESS_TOKEN": ""}
    done = spokes(environ, "doctor", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {f["topic"] for f in findings if f["level"] == "fault"} == {"redis", "hubspot"}
    assert not [secret for secret in (SECRET, "pass-word", environ["AUDIT_KEY"]) if secret in done.stdout]


def test_settings_are_shown_with_their_source_and_secrets_masked(settings: Settings) -> None:
    shown = {finding.figures["name"]: finding.sentence for finding in settings_findings(settings)}

    assert shown["AUDIT_KEY"] == "AUDIT_KEY = ***"
    assert shown["HUBSPOT_CLIENT_SECRET"] == "HUBSPOT_CLIENT_SECRET = ***"
    assert shown["PUBLIC_URL"] == f"PUBLIC_URL = {PUBLIC_URL}"
    assert shown["HUBSPOT_RESERVE"] == "HUBSPOT_RESERVE = 0.1 (default)"


def test_settings_that_nobody_has_set_are_one_line(settings: Settings) -> None:
    defaults = [finding for finding in settings_findings(settings) if finding.figures["default"]]
    [line] = summarise_defaults(defaults)
    assert line.sentence == f"{len(defaults)} have their defaults: --all shows them."
    assert list(summarise_defaults([])) == []


def test_sound_server_is_told_point_by_point() -> None:
    told = " ".join(finding.sentence for finding in assess_server(SOUND, 0.2, 0.0))
    assert all(word in told for word in ("0.2 ms", "clock", "noeviction", "append-only file", "MiB"))


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({}, "ok"),
        ({"maxmemory_policy": "allkeys-lru"}, "fault"),
        ({"aof_enabled": 0}, "fault"),
        ({"aof_enabled": 0, "role": "master", "connected_slaves": 1, "rdb_last_save_time": 1}, "warning"),
        ({"aof_last_write_status": "err"}, "fault"),
        ({"used_memory": 9 * 2**20}, "warning"),
        ({"used_memory": 10 * 2**20}, "fault"),
        ({"valkey_version": "5.0"}, "warning"),
    ],
)
def test_server_is_judged_by_whether_it_keeps_events(info: dict[str, object], level: str) -> None:
    assert levels(list(assess_server({**SOUND, **info}, 0.2, 0.0))) == {"redis": level}


@pytest.mark.parametrize(("latency_ms", "skew_s"), [(20.0, 0.0), (0.2, 3.0), (0.2, -3.0)])
def test_slow_server_or_a_clock_that_differs_is_a_warning(latency_ms: float, skew_s: float) -> None:
    assert levels(list(assess_server(SOUND, latency_ms, skew_s))) == {"redis": "warning"}


@pytest.mark.parametrize(
    ("waiting", "queue", "dead"),
    [
        (Backlog(0, 0, 0, 0, 0, 0), "ok", "ok"),
        (Backlog(5, 0, 600, 0, 0, 0), "warning", "ok"),
        (Backlog(0, 0, 0, 0, 2, 1_000_000_000_000), "ok", "warning"),
        (Backlog(0, 0, 0, 0, 2, 1_000_000_000_000 - 28 * 86_400_000), "ok", "fault"),
    ],
)
def test_late_queue_and_dead_letters_are_told(waiting: Backlog, queue: str, dead: str) -> None:
    found = levels(list(assess_backlog(waiting, 30, 1_000_000_000)))

    assert found == {"queue": queue, "dead letters": dead}


async def test_what_waits_is_counted(environ: dict[str, str], hubspot: Simulator, redis: Redis) -> None:
    now_ms = clock.now_ms()
    await redis.zadd(JOB_QUEUE, {"7-1": now_ms - 120_000, "7-2": now_ms + 60_000})
    letter = DeadLetter(7, "7-1", Entry("aa", 1, event(portalId=7)), "x", "y", now_ms)
    await redis.set(keys.dead_letter(7, "aa"), letter.to_bytes())
    await redis.zadd(keys.dead_letters_by_time(7), {"aa": now_ms})
    await redis.sadd(keys.PORTALS, 7)  # type: ignore[misc]

    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}))

    assert {"queue": "warning", "dead letters": "warning"}.items() <= levels(findings).items()
    (queue,) = [f for f in findings if f.topic == "queue" and "due" in f.figures]
    assert (queue.figures["due"], queue.figures["later"]) == (1, 1)


async def test_store_without_tables_is_a_warning_with_what_to_do(settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True)

    (found,) = await check_audit_store(settings)

    assert (found.level, "spokes migrate" in found.sentence) == (FindingLevel.WARNING, True)


@pytest.mark.parametrize(
    ("heads", "last", "level"),
    [
        ([], [], FindingLevel.OK),
        ([{"seq": 1, "hash": "a"}], [], FindingLevel.FAULT),
        ([{"seq": 1, "hash": "a"}], [{"seq": 1, "hash": "a"}], FindingLevel.OK),
        ([{"seq": 2, "hash": "b"}], [{"seq": 1, "hash": "a"}], FindingLevel.FAULT),
        ([{"seq": 2, "hash": "b"}], [{"seq": 2, "hash": "b"}, {"seq": 1, "hash": "a"}], FindingLevel.FAULT),
    ],
)
def test_end_of_the_chain_must_fit(heads: list[Row], last: list[Row], level: FindingLevel) -> None:
    assert assess_chain_end(heads, last).level is level


@pytest.mark.parametrize(
    ("scopes", "level"),
    [
        ({"crm.objects.contacts.read"}, FindingLevel.OK),
        ({"crm.objects.contacts.read", "content"}, FindingLevel.WARNING),
        ({"content"}, FindingLevel.FAULT),
        (set(), FindingLevel.WARNING),
    ],
)
def test_scopes_that_handlers_lack_are_a_fault(scopes: set[str], level: FindingLevel) -> None:
    declaration = Declaration("contact", {"contacts": ("phone",)}, frozenset())

    first = next(assess_scopes(TokenInfo(1, frozenset(scopes)), [declaration]))

    assert first.level is level


@pytest.mark.parametrize(
    ("usage", "level"),
    [
        ({"usageLimit": 100, "currentUsage": 10, "resetsAt": "2026-11-24T00:00:00Z"}, FindingLevel.OK),
        ({"usageLimit": 100, "currentUsage": 90}, FindingLevel.WARNING),
        ({}, FindingLevel.WARNING),
        ({"usageLimit": "many"}, FindingLevel.WARNING),
    ],
)
def test_days_calls_are_told(usage: dict[str, object], level: FindingLevel) -> None:
    assert next(assess_usage(usage)).level is level


@pytest.mark.parametrize("fault", ["token", "portal"])
async def test_token_that_does_not_serve_is_a_fault(
    environ: dict[str, str], hubspot: Simulator, redis: Redis, fault: str
) -> None:
    hubspot.portal.token_state = TokenState.REVOKED if fault == "token" else TokenState.VALID
    portals = {"PORTAL_IDS": "7"} if fault == "portal" else {}

    findings = await run_checks(Settings.from_env({**environ, **portals, "HUBSPOT_API_URL": hubspot.url}))

    assert levels(findings)["hubspot"] == "fault"


async def test_hubspot_being_down_is_no_fault(environ: dict[str, str], redis: Redis) -> None:
    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": "http://127.0.0.1:1"}))

    assert levels(findings)["hubspot"] == "warning"


def test_knock_is_signed_as_hubspot_signs() -> None:
    url = f"{PUBLIC_URL}/webhooks/hubspot"

    headers = sign_request(SECRET, url, b"[]", 1_000)

    version = verify(method="POST", uri=url, body=b"[]", headers=headers, secrets=[SECRET], now_ms=1_000)
    assert version == "v3"


@pytest.mark.parametrize(("status", "level"), [(202, "ok"), (401, "fault"), (404, "fault"), (418, "fault")])
async def test_door_is_judged_by_its_answer(settings: Settings, status: int, level: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/webhooks/hubspot", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    findings = await check_receiver(settings.model_copy(update={"public_url": url}))
    await runner.cleanup()

    assert levels(findings) == {"door": level}


OLD = Alert("secret_old", "3f2a", 1, *ALERT_TEXTS[alerts.Alert.SECRET_OLD], 0, {})
STANDING = ProcessState({"web": 1, "worker": 2}, (), {}, 0, 0.0)


@pytest.mark.parametrize(
    ("standing", "topic", "words"),
    [
        (STANDING._replace(processes={"web": 1}), "processes", "0 worker live: events wait"),
        (
            STANDING._replace(alerts=(OLD,)),
            "alerts",
            "secret_old stands. A secret is older",
        ),
        (STANDING._replace(pause_reasons={7: "not_authorized"}), "pauses", "portal 7 waits: not_authorized"),
        (STANDING._replace(unreadable_jobs=3), "queue", "3 jobs that nobody can read"),
        (STANDING._replace(oldest_unsent_s=900.0), "alerts", "has not reached ALERT_WEBHOOK_URL for 900 s"),
    ],
)
def test_what_waits_for_an_operator_is_a_warning(standing: ProcessState, topic: str, words: str) -> None:
    found = [
        finding for finding in assess_processes(standing, has_webhook=True) if finding.level is FindingLevel.WARNING
    ]
    assert [(finding.topic, words in finding.sentence) for finding in found] == [(topic, True)]


def test_nothing_that_waits_is_well() -> None:
    assert {finding.level for finding in assess_processes(STANDING, has_webhook=True)} == {FindingLevel.OK}


async def test_secrets_are_as_old_as_workers_have_seen_them(redis: Redis, settings: Settings) -> None:
    before = await secret_ages(settings, redis)
    await watch_secrets(settings, redis, AlertEpisodes(redis))
    for print_ in await redis.hkeys("spokes:secrets"):
        await redis.hincrby("spokes:secrets", print_, -91 * 86_400_000)
    found = list(assess_secret_ages(await secret_ages(settings, redis)))
    assert (before, {finding.level for finding in found}) == ([], {FindingLevel.WARNING})
    assert sorted(finding.sentence.partition(" ")[0] for finding in found) == [
        "HUBSPOT_ACCESS_TOKEN",
        "HUBSPOT_CLIENT_SECRET",
    ]
    assert all("91 days" in finding.sentence for finding in found)


def test_what_a_dyno_would_lose_is_a_warning(environ: dict[str, str]) -> None:
    gone = Settings.from_env({name: value for name, value in environ.items() if name != "AUDIT_KEY"})
    kept = Settings.from_env({**environ, "DATABASE_URL": "postgres://127.0.0.1/x"})
    assert [finding.topic for finding in assess_persistence(gone)] == ["secrets", "audit store"]
    assert list(assess_persistence(kept)) == []


@pytest.mark.parametrize(
    ("url", "faults"), [("http://hooks.example.com", 1), ("https://x.example.com", 0), ("http://127.0.0.1:80", 0)]
)
def test_address_that_hubspot_cannot_call_is_a_fault(url: str, faults: int) -> None:
    assert [finding.level for finding in assess_public_url(url)] == [FindingLevel.FAULT] * faults


def test_settings_are_shown_to_programs_too(environ: dict[str, str]) -> None:
    nobody = {"REDIS_URL": "redis://127.0.0.1:1", "HUBSPOT_API_URL": "http://127.0.0.1:1"}
    done = spokes({**environ, **nobody}, "doctor", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    shown = {f["figures"]["name"]: f["figures"]["value"] for f in found if f["topic"] == "settings"}
    assert (shown["DEDUPE_HOURS"], shown["HUBSPOT_ACCESS_TOKEN"]) == ("48", "***")
