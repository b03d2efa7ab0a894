"""The alert webhook: signed messages, delivered in order and retried; secrets and personal data are masked."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.alert_webhook import AlertWebhook
from spokes.core.errors import ConfigurationError
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from tests.support.command_line import spokes
from tests.support.waiting import until

SECRET = "a-secret-of-the-webhook"


@dataclass
class Receiver:
    """A local endpoint for alerts; `statuses` are those of its next responses, then 200."""

    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else None)

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [
            (message["alert"], message["state"]) for message in map(json.loads, (body for _, body in self.requests))
        ]


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.receive)
    async with TestServer(app) as server:
        yield receiver, str(server.make_url("/alerts"))


@pytest.fixture
async def delivery(
    environ: dict[str, str], redis: Redis, receiver: tuple[Receiver, str]
) -> AsyncIterator[tuple[Receiver, AlertEpisodes]]:
    """Run two workers that deliver, as a deployment may have."""
    settings = Settings.from_env({**environ, "ALERT_WEBHOOK_URL": receiver[1], "ALERT_WEBHOOK_SECRET": SECRET})
    workers = [
        asyncio.create_task(AlertWebhook(settings, redis, retry_waits_s=(0.01,)).run(RedisOutage(), "test"))
        for _ in range(2)
    ]
    yield receiver[0], AlertEpisodes(redis)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_start_and_end_of_episode_are_each_sent_once(delivery: tuple[Receiver, AlertEpisodes]) -> None:
    receiver, episodes = delivery
    for is_active in (True, True, False, False):
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=is_active, at_once=True, waiting=7)
    await until(lambda: len(receiver.requests) >= 2)
    await episodes.set_state(Alert.SECRET_OLD, subject="3f2a", is_active=True, days=91)
    await until(lambda: len(receiver.requests) >= 3)
    assert receiver.messages == [("audit_backlog", "began"), ("audit_backlog", "ended"), ("secret_old", "began")]


async def test_message_is_signed_with_its_timestamp_and_readable_in_slack(
    delivery: tuple[Receiver, AlertEpisodes],
) -> None:
    receiver, episodes = delivery
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True, waiting=7)
    await until(lambda: bool(receiver.requests))
    (headers, body) = receiver.requests[0]
    timestamp = headers["Spokes-Timestamp"]
    expected = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert headers["Spokes-Signature"] == f"v1={expected}"
    assert abs(time.time() - int(timestamp)) < 60
    assert message["text"].startswith("Spokes (production): audit_backlog began (waiting 7). ")
    assert (message["fields"], headers["Spokes-Message-Id"]) == ({"waiting": 7}, message["id"])


@pytest.mark.parametrize("status", [500, 503, 429, 302])
async def test_message_is_retried_with_the_same_id(delivery: tuple[Receiver, AlertEpisodes], status: int) -> None:
    receiver, episodes = delivery
    receiver.statuses = [status, status]
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True)
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
    await until(lambda: len(receiver.requests) >= 4)
    assert receiver.messages == [("audit_backlog", "began")] * 3 + [("audit_backlog", "ended")]
    assert len({headers["Spokes-Message-Id"] for headers, _ in receiver.requests}) == 2


async def test_rejected_message_does_not_block_others(delivery: tuple[Receiver, AlertEpisodes]) -> None:
    receiver, episodes = delivery
    receiver.statuses = [410]
    with capture_logs() as logs:
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True)
        await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=False)
        await until(lambda: len(receiver.requests) >= 2)
    assert receiver.messages == [("audit_backlog", "began"), ("audit_backlog", "ended")]
    assert [(log["alert"], log["status"]) for log in logs if log["event"] == "alert_not_sent"] == [
        ("audit_backlog", 410)
    ]


async def test_personal_data_and_secrets_are_not_sent(
    delivery: tuple[Receiver, AlertEpisodes], environ: dict[str, str]
) -> None:
    receiver, episodes = delivery
    fields = {"email": "x", "note": f"ann@example.com {environ['HUBSPOT_ACCESS_TOKEN']} <script>"}
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=True, at_once=True, **fields)
    await until(lambda: bool(receiver.requests))
    sent = receiver.requests[0][1].decode()
    assert [value for value in ("ann@example.com", environ["HUBSPOT_ACCESS_TOKEN"]) if value in sent] == []
    assert "&lt;script&gt;" in json.loads(sent)["text"]


@pytest.mark.parametrize("url", ["http://hooks.example.com/x", "ftp://example.com", "https://", "hooks.example.com"])
def test_url_must_be_https(environ: dict[str, str], url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ALERT_WEBHOOK_URL .* such as https://"):
        Settings.from_env({**environ, "ALERT_WEBHOOK_URL": url, "ALERT_WEBHOOK_SECRET": SECRET})


def test_url_without_secret_is_rejected(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="ALERT_WEBHOOK_SECRET is not set"):
        Settings.from_env({**environ, "ALERT_WEBHOOK_URL": "https://hooks.example.com/x"})


@pytest.mark.parametrize(("status", "code"), [(200, 0), (403, 1)])
async def test_operator_can_send_a_test_message(
    environ: dict[str, str], redis: Redis, receiver: tuple[Receiver, str], status: int, code: int
) -> None:
    receiver[0].statuses = [status]
    with_webhook = {**environ, "ALERT_WEBHOOK_URL": receiver[1], "ALERT_WEBHOOK_SECRET": SECRET}
    completed = await asyncio.to_thread(spokes, with_webhook, "alerts", "--test")
    assert (completed.returncode, receiver[0].messages) == (code, [("test", "happened")])
