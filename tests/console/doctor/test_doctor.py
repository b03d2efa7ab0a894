"""`doctor` and its checks: a sentence for each finding, and exit code 1 exactly when there is a fault."""

import json
from dataclasses import replace

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.chain import GENESIS
from spokes.audit.rows import Row
from spokes.console.commands.doctor import summarise_defaults
from spokes.console.doctor.audit_store_check import assess_chain_end
from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.console.doctor.outside.receiver_check import assess_public_url, check_receiver
from spokes.console.doctor.portals.hubspot_check import assess_clock, assess_scopes, assess_usage
from spokes.console.doctor.process_check import ProcessState, assess_persistence, assess_processes, assess_secret_ages
from spokes.console.doctor.redis_check import Backlog, assess_backlog, assess_server, check_redis
from spokes.console.doctor.report import run_checks, settings_findings
from spokes.console.queries.alerts import ActiveAlert
from spokes.core import clock
from spokes.core.delivery import JOB_NAME, Entry, encode
from spokes.core.redis import keys
from spokes.core.redis.keys import DEFAULT_JOB_KEY_PREFIX, DEFAULT_QUEUE, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.signature import sign_request, verify
from spokes.core.telemetry.alerts import ALERT_TEXTS, Alert
from spokes.core.telemetry.secret_ages import secret_ages
from spokes.crm.scopes import Declaration
from spokes.crm.transport.token_info import TokenInfo
from spokes.queue.dead_letters import DeadLetter
from spokes.simulator.app import Simulator
from spokes.simulator.portal import TokenState
from tests.support.command_line import spokes
from tests.support.deployment import PUBLIC_URL, SECRET
from tests.support.events import event
from workers.upkeep.anomaly_watch import watch_secrets

SOUND_SERVER = {
    "redis_version": "7.2.4", "valkey_version": "9.1.0", "maxmemory_policy": "noeviction", "aof_enabled": 1,
    "used_memory": 2**20, "maxmemory": 10 * 2**20, "aof_last_write_status": "ok",
}  # fmt: skip


def levels(findings: list[Finding]) -> dict[str, str]:
    """Return the most severe level of each topic."""
    severity = list(FindingLevel)
    by_topic: dict[str, FindingLevel] = {}
    for finding in findings:
        worst = by_topic.get(finding.topic, FindingLevel.OK)
        by_topic[finding.topic] = max(worst, finding.level, key=severity.index)
    return {topic: level.value for topic, level in by_topic.items()}


async def test_sound_deployment_has_no_faults(environ: dict[str, str], hubspot: Simulator, redis: Redis) -> None:
    """Warnings only: PUBLIC_URL cannot be reached, no process runs, and the audit is a local file."""
    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}))

    assert levels(findings) == {
        "settings": "ok", "redis": "ok", "queue": "ok", "dead letters": "ok",
        "alerts": "ok", "processes": "warning", "secrets": "ok",
        "audit store": "warning", "stored secrets": "ok", "hubspot": "warning", "receiver": "warning",
        "deadlines": "info", "subscriptions": "ok",
    }  # fmt: skip


def test_fault_is_exit_code_1_and_no_secret_is_shown(environ: dict[str, str]) -> None:
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
    assert shown["HUBSPOT_RESERVE"] == "HUBSPOT_RESERVE = 0.05 (default)"


def test_default_settings_are_one_line(settings: Settings) -> None:
    defaults = [finding for finding in settings_findings(settings) if finding.figures["default"]]
    [line] = summarise_defaults(defaults)
    assert line.sentence == f"{len(defaults)} settings have their default values: --all shows them."
    assert list(summarise_defaults([])) == []


def test_sound_server_is_described_point_by_point() -> None:
    sentences = " ".join(finding.sentence for finding in assess_server(SOUND_SERVER, 0.2, 0.0))
    assert all(word in sentences for word in ("0.2 ms", "clock", "noeviction", "append-only file", "MiB"))


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({}, "ok"),
        ({"maxmemory_policy": "allkeys-lru"}, "fault"),
        ({"aof_enabled": 0}, "fault"),
        ({"aof_enabled": 0, "role": "master", "connected_slaves": 1, "rdb_last_save_time": 1}, "warning"),
        ({"aof_last_write_status": "err"}, "fault"),
        ({"connected_clients": 17, "maxclients": 20}, "warning"),
        ({"used_memory": 9 * 2**20}, "warning"),
        ({"used_memory": 10 * 2**20}, "fault"),
        ({"valkey_version": "5.0"}, "warning"),
    ],
)
def test_server_is_assessed_by_whether_it_keeps_events(info: dict[str, object], level: str) -> None:
    assert levels(list(assess_server({**SOUND_SERVER, **info}, 0.2, 0.0))) == {"redis": level}


@pytest.mark.parametrize(("latency_ms", "skew_s"), [(20.0, 0.0), (0.2, 3.0), (0.2, -3.0)])
def test_slow_server_or_wrong_clock_is_a_warning(latency_ms: float, skew_s: float) -> None:
    assert levels(list(assess_server(SOUND_SERVER, latency_ms, skew_s))) == {"redis": "warning"}


@pytest.mark.parametrize(
    ("backlog", "queue", "dead"),
    [
        (Backlog(0, 0, 0, 0, 0, 0), "ok", "ok"),
        (Backlog(5, 0, 600, 0, 0, 0), "warning", "ok"),
        (Backlog(0, 0, 0, 0, 2, 1_000_000_000_000), "ok", "warning"),
        (Backlog(0, 0, 0, 0, 2, 1_000_000_000_000 - 28 * 86_400_000), "ok", "fault"),
    ],
)
def test_late_queue_and_dead_letters_are_reported(backlog: Backlog, queue: str, dead: str) -> None:
    by_topic = levels(list(assess_backlog(backlog, 30, 1_000_000_000)))

    assert by_topic == {"queue": queue, "dead letters": dead}


async def test_due_and_scheduled_deliveries_are_counted(
    environ: dict[str, str], hubspot: Simulator, redis: Redis
) -> None:
    now_ms = clock.now_ms()
    await redis.zadd(JOB_QUEUE, {"7-1": now_ms - 120_000, "7-2": now_ms + 60_000})
    letter = DeadLetter(7, "7-1", Entry("aa", 1, event(portalId=7)), "x", "y", now_ms)
    await redis.set(keys.dead_letter(7, "aa"), letter.to_bytes())
    await redis.zadd(keys.dead_letters_by_time(7), {"aa": now_ms})
    await redis.sadd(keys.PORTALS, 7)  # type: ignore[misc]

    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}))

    assert {"queue": "warning", "dead letters": "warning"}.items() <= levels(findings).items()
    (queue,) = [f for f in findings if f.topic == "queue" and "due" in f.figures]
    assert (queue.figures["due"], queue.figures["scheduled"]) == (1, 1)


@pytest.mark.parametrize(
    ("heads", "last_records", "level"),
    [
        ([], [], FindingLevel.OK),
        ([{"seq": 0, "hash": GENESIS}], [], FindingLevel.OK),
        ([{"seq": 1, "hash": "a"}], [], FindingLevel.FAULT),
        ([{"seq": 1, "hash": "a"}], [{"seq": 1, "hash": "a"}], FindingLevel.OK),
        ([{"seq": 2, "hash": "b"}], [{"seq": 1, "hash": "a"}], FindingLevel.FAULT),
        ([{"seq": 2, "hash": "b"}], [{"seq": 2, "hash": "b"}, {"seq": 1, "hash": "a"}], FindingLevel.FAULT),
    ],
)
def test_head_of_the_chain_must_match_the_newest_records(
    heads: list[Row], last_records: list[Row], level: FindingLevel
) -> None:
    assert assess_chain_end(heads, last_records).level is level


@pytest.mark.parametrize(
    ("scopes", "level"),
    [
        ({"crm.objects.contacts.read"}, FindingLevel.OK),
        ({"crm.objects.contacts.read", "content"}, FindingLevel.WARNING),
        ({"content"}, FindingLevel.FAULT),
        (set(), FindingLevel.WARNING),
    ],
)
def test_missing_scopes_are_a_fault_and_excess_ones_a_warning(scopes: set[str], level: FindingLevel) -> None:
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
def test_usage_of_the_day_is_reported(usage: dict[str, object], level: FindingLevel) -> None:
    assert next(assess_usage(usage)).level is level


@pytest.mark.parametrize("fault", ["token", "portal"])
async def test_unusable_token_is_a_fault(environ: dict[str, str], hubspot: Simulator, redis: Redis, fault: str) -> None:
    hubspot.portal.token_state = TokenState.REVOKED if fault == "token" else TokenState.VALID
    portals = {"PORTAL_IDS": "7"} if fault == "portal" else {}

    findings = await run_checks(Settings.from_env({**environ, **portals, "HUBSPOT_API_URL": hubspot.url}))

    assert levels(findings)["hubspot"] == "fault"


async def test_unreachable_hubspot_is_a_warning(environ: dict[str, str], redis: Redis) -> None:
    findings = await run_checks(Settings.from_env({**environ, "HUBSPOT_API_URL": "http://127.0.0.1:1"}))

    assert levels(findings)["hubspot"] == "warning"


def test_probe_is_signed_as_hubspot_signs() -> None:
    url = f"{PUBLIC_URL}/webhooks/hubspot"

    headers = sign_request(SECRET, url, b"[]", 1_000)

    version = verify(method="POST", uri=url, body=b"[]", headers=headers, secrets=[SECRET], now_ms=1_000)
    assert version == "v3"


@pytest.mark.parametrize(("status", "level"), [(202, "ok"), (401, "fault"), (404, "fault"), (418, "fault")])
async def test_receiver_is_assessed_by_its_response(settings: Settings, status: int, level: str) -> None:
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

    assert levels(findings) == {"receiver": level}


SECRET_OLD = ActiveAlert("secret_old", "3f2a", 1, *ALERT_TEXTS[Alert.SECRET_OLD], 0, {})


async def test_jobs_in_arqs_default_queue_are_reported(environ: dict[str, str], redis: Redis) -> None:
    for name, payload in (("7-1-a", encode({"f": JOB_NAME, "a": [{}]})), ("foreign", b"\x80pickle")):
        await redis.set(DEFAULT_JOB_KEY_PREFIX + name, payload)
        await redis.zadd(DEFAULT_QUEUE, {name: 1})
    findings = await check_redis(redis, Settings.from_env(environ))
    texts = [finding.sentence for finding in findings if "default queue" in finding.sentence]
    assert [text.partition(".")[0] for text in texts] == [
        "Deliveries in arq's default queue: 1",
        "Jobs of another application in arq's default queue: 1",
    ]


HEALTHY = ProcessState({"web": 1, "worker": 2}, (), 0, 0.0)


def test_alert_of_many_portals_is_one_finding_that_names_some() -> None:
    alerts = tuple(replace(SECRET_OLD, subject=str(number)) for number in range(30))
    [finding] = [each for each in assess_processes(HEALTHY._replace(alerts=alerts), has_webhook=True)
                 if each.topic == "alerts"]  # fmt: skip
    assert "It concerns 0, 1, 2" in finding.sentence
    assert finding.sentence.endswith("19 and 10 more.")


@pytest.mark.parametrize(
    ("state", "topic", "words"),
    [
        (HEALTHY._replace(processes={"web": 1}), "processes", "1 web, 0 worker. Without a web process"),
        (HEALTHY._replace(alerts=(SECRET_OLD,)), "alerts", f"secret_old is active. {SECRET_OLD.meaning}"),
        (HEALTHY._replace(unreadable_jobs=3), "queue", "3 queued jobs could not be decoded"),
        (HEALTHY._replace(oldest_unsent_s=900.0), "alerts", "has not reached ALERT_WEBHOOK_URL for 900 s"),
    ],
)
def test_state_that_needs_an_operator_is_a_warning(state: ProcessState, topic: str, words: str) -> None:
    findings = assess_processes(state, has_webhook=True)
    warnings = [finding for finding in findings if finding.level is FindingLevel.WARNING]
    assert [(finding.topic, words in finding.sentence) for finding in warnings] == [(topic, True)]


def test_healthy_state_has_no_warning() -> None:
    assert {finding.level for finding in assess_processes(HEALTHY, has_webhook=True)} == {FindingLevel.OK}


async def test_age_of_a_secret_counts_from_when_a_worker_first_saw_it(redis: Redis, settings: Settings) -> None:
    before = await secret_ages(settings, redis)
    await watch_secrets(settings, redis, AlertEpisodes(redis))
    for fingerprint in await redis.hkeys("spokes:secrets"):
        await redis.hincrby("spokes:secrets", fingerprint, -91 * 86_400_000)
    findings = list(assess_secret_ages(await secret_ages(settings, redis)))
    assert (before, {finding.level for finding in findings}) == ([], {FindingLevel.WARNING})
    assert sorted(finding.sentence.partition(" ")[0] for finding in findings) == [
        "HUBSPOT_ACCESS_TOKEN",
        "HUBSPOT_CLIENT_SECRET",
    ]
    assert all("91 days" in finding.sentence for finding in findings)


def test_key_or_audit_on_a_local_disk_is_a_warning(environ: dict[str, str]) -> None:
    local = Settings.from_env({name: value for name, value in environ.items() if name != "AUDIT_KEY"})
    elsewhere = Settings.from_env({**environ, "DATABASE_URL": "postgres://127.0.0.1/x"})
    assert [finding.topic for finding in assess_persistence(local)] == ["secrets", "audit store"]
    assert list(assess_persistence(elsewhere)) == []


@pytest.mark.parametrize(
    ("url", "faults"), [("http://hooks.example.com", 1), ("https://x.example.com", 0), ("http://127.0.0.1:80", 0)]
)
def test_public_url_that_hubspot_cannot_call_is_a_fault(url: str, faults: int) -> None:
    assert [finding.level for finding in assess_public_url(url)] == [FindingLevel.FAULT] * faults


def test_settings_are_part_of_the_json(environ: dict[str, str]) -> None:
    unreachable = {"REDIS_URL": "redis://127.0.0.1:1", "HUBSPOT_API_URL": "http://127.0.0.1:1"}
    done = spokes({**environ, **unreachable}, "doctor", "--json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    values = {f["figures"]["name"]: f["figures"]["value"] for f in findings if f["topic"] == "settings"}
    assert (values["DEDUPE_HOURS"], values["HUBSPOT_ACCESS_TOKEN"]) == ("48", "***")


@pytest.mark.parametrize(
    ("skew_s", "levels"),
    [(None, []), (0.4, ["ok"]), (-15.0, ["ok"]), (15.1, ["warning"]), (-299.0, ["warning"]), (-300.0, ["fault"]),
     (60.0, ["fault"])],
)  # fmt: skip
def test_clock_by_which_deliveries_are_refused_is_a_fault(skew_s: float | None, levels: list[str]) -> None:
    assert [finding.level for finding in assess_clock(skew_s, max_age_s=300, max_skew_s=60)] == levels
