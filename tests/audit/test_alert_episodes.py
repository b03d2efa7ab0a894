"""Alerts: one name everywhere, once for each episode, and to a webhook that is signed and harms nobody."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alert_episodes import OUTBOX, AlertEpisodes
from spokes.audit.alert_webhook import AlertWebhook
from spokes.core.delivery import ALERTS_ACTIVE, AUDIT_STREAM
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import ALERT_TEXTS, Alert
from tests.support.command_line import spokes
from tests.support.deployment import ROOT
from tests.support.events import recorded

SECRET = "a-secret-of-the-webhook"


@dataclass
class Receiver:
    """A local endpoint that takes alerts; `answers` are its next statuses, then 200."""

    answers: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else None)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [
            (message["alert"], message["state"]) for message in map(json.loads, (body for _, body in self.requests))
        ]


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    async with TestServer(app) as server:
        yield receiver, str(server.make_url("/alerts"))


@pytest.fixture
async def sending(
    environ: dict[str, str], redis: Redis, receiver: tuple[Receiver, str]
) -> AsyncIterator[tuple[Receiver, AlertEpisodes]]:
    """Two workers that send, as there may be."""
    settings = Settings.from_env({**environ, "ALERT_WEBHOOK_URL": receiver[1], "ALERT_WEBHOOK_SECRET": SECRET})
    workers = [asyncio.create_task(AlertWebhook(settings, redis, retry_waits_s=(0.01,)).run()) for _ in range(2)]
    yield receiver[0], AlertEpisodes(redis)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is a task of its own
            await asyncio.sleep(0.02)


async def test_episode_is_sent_once_and_its_end_once(sending: tuple[Receiver, AlertEpisodes]) -> None:
    receiver, episodes = sending
    for stands in (True, True, False, False):
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=stands, waiting=7)
    await until(lambda: len(receiver.requests) >= 2)
    await episodes.set_state(Alert.SECRET_OLD, subject="3f2a", is_active=True, days=91)
    await until(lambda: len(receiver.requests) >= 3)
    assert receiver.told == [("audit_backlog", "began"), ("audit_backlog", "ended"), ("secret_old", "began")]


async def test_message_is_signed_with_its_timestamp_and_readable_in_slack(
    sending: tuple[Receiver, AlertEpisodes],
) -> None:
    receiver, episodes = sending
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, waiting=7)
    await until(lambda: bool(receiver.requests))
    (headers, body) = receiver.requests[0]
    timestamp = headers["Spokes-Timestamp"]
    expected = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert headers["Spokes-Signature"] == f"v1={expected}"
    assert abs(time.time() - int(timestamp)) < 60
    assert message["text"].startswith("Spokes (production): audit_backlog began (waiting 7). ")
    assert (message["fields"], headers["Spokes-Message-Id"]) == ({"waiting": 7}, message["id"])


@pytest.mark.parametrize("answer", [500, 503, 429, 302])
async def test_what_is_not_taken_is_sent_again_as_the_same_message(
    sending: tuple[Receiver, AlertEpisodes], answer: int
) -> None:
    receiver, episodes = sending
    receiver.answers = [answer, answer]
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True)
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
    await until(lambda: len(receiver.requests) >= 4)
    assert receiver.told == [("audit_backlog", "began")] * 3 + [("audit_backlog", "ended")]
    assert len({headers["Spokes-Message-Id"] for headers, _ in receiver.requests}) == 2


async def test_what_is_refused_for_good_holds_nothing_up(sending: tuple[Receiver, AlertEpisodes]) -> None:
    receiver, episodes = sending
    receiver.answers = [410]
    with capture_logs() as logs:
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True)
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
        await until(lambda: len(receiver.requests) >= 2)
    assert receiver.told == [("audit_backlog", "began"), ("audit_backlog", "ended")]
    assert [(log["alert"], log["status"]) for log in logs if log["event"] == "alert_not_sent"] == [
        ("audit_backlog", 410)
    ]


async def test_nothing_personal_and_no_secret_is_sent(
    sending: tuple[Receiver, AlertEpisodes], environ: dict[str, str]
) -> None:
    receiver, episodes = sending
    given = {"email": "x", "note": f"ann@example.com {environ['HUBSPOT_ACCESS_TOKEN']} <script>"}
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, **given)
    await until(lambda: bool(receiver.requests))
    sent = receiver.requests[0][1].decode()
    assert [word for word in ("ann@example.com", environ["HUBSPOT_ACCESS_TOKEN"]) if word in sent] == []
    assert "&lt;script&gt;" in json.loads(sent)["text"]


async def test_messages_that_nobody_takes_are_bounded(redis: Redis) -> None:
    episodes = AlertEpisodes(redis)
    for _ in range(110):
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True)
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
    assert (await redis.llen(OUTBOX), 0 < await redis.ttl(OUTBOX) <= 86_400) == (200, True)


async def test_of_many_that_tell_at_once_one_is_heard(redis: Redis) -> None:
    with capture_logs() as logs:
        await asyncio.gather(*(AlertEpisodes(redis).set_state(Alert.QUEUE_FILLING, is_active=True) for _ in range(20)))
    assert (len(logs), await redis.xlen(AUDIT_STREAM), await redis.llen(OUTBOX)) == (1, 1, 1)


async def test_record_and_standing_alert_name_the_portal(redis: Redis) -> None:
    await AlertEpisodes(redis).set_state(
        Alert.PORTAL_PAUSED, subject=7, portal_id=7, is_active=True, why="not_authorized"
    )
    (record,) = await recorded(redis)
    stands = json.loads(await redis.hget(ALERTS_ACTIVE, "portal_paused:7"))
    assert (record.portal_id, record.reason, stands["why"]) == (7, "portal_paused:7", "not_authorized")


async def test_what_happens_again_soon_is_logged_each_time_and_sent_once(redis: Redis) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            await AlertEpisodes(redis).report_once(Alert.UNREADABLE_DELIVERY, job_id="x")
    assert (len(logs), await redis.llen(OUTBOX)) == (3, 1)


@pytest.mark.parametrize("url", ["http://hooks.example.com/x", "ftp://example.com", "https://", "hooks.example.com"])
def test_only_https_or_this_machine_is_called(environ: dict[str, str], url: str) -> None:
    with pytest.raises(ConfigurationError, match="ALERT_WEBHOOK_URL must be an https address"):
        Settings.from_env({**environ, "ALERT_WEBHOOK_URL": url, "ALERT_WEBHOOK_SECRET": SECRET})


def test_no_message_goes_unsigned(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="ALERT_WEBHOOK_SECRET is not set"):
        Settings.from_env({**environ, "ALERT_WEBHOOK_URL": "https://hooks.example.com/x"})


def test_every_alert_has_a_meaning_and_stands_in_the_operators_table() -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    rows = {alert: f"| `{alert}` | {' | '.join(ALERT_TEXTS[alert])} |" for alert in Alert}
    assert [alert for alert, row in rows.items() if row not in table] == []


def test_every_alert_is_told_somewhere() -> None:
    text = "\n".join(
        path.read_text()
        for name in ("spokes", "ingest", "workers")
        for path in (ROOT / name).rglob("*.py")
        if path.name != "alerts.py"
    )
    told = {alert.name for alert in Alert if f"Alert.{alert.name}" in text or alert.startswith("unusual_")}
    assert told == {alert.name for alert in Alert}


async def test_operator_sees_what_stands_and_what_to_do(redis: Redis, environ: dict[str, str]) -> None:
    await AlertEpisodes(redis).set_state(Alert.AUDIT_BACKLOG, is_active=True, waiting=7)
    shown = await asyncio.to_thread(spokes, environ, "alerts")
    assert "More records than AUDIT_BACKLOG wait" in shown.stdout
    assert "waiting 7" in shown.stdout
    [told] = map(json.loads, (await asyncio.to_thread(spokes, environ, "alerts", "--json")).stdout.splitlines())
    assert (told["name"], told["fields"]) == ("audit_backlog", {"waiting": 7})


@pytest.mark.parametrize(("answer", "code"), [(200, 0), (403, 1)])
async def test_webhook_can_be_tried(
    environ: dict[str, str], redis: Redis, receiver: tuple[Receiver, str], answer: int, code: int
) -> None:
    receiver[0].answers = [answer]
    given = {**environ, "ALERT_WEBHOOK_URL": receiver[1], "ALERT_WEBHOOK_SECRET": SECRET}
    done = await asyncio.to_thread(spokes, given, "alerts", "--test")
    assert (done.returncode, receiver[0].told) == (code, [("test", "happened")])
