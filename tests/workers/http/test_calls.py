"""tools.http in a worker's handlers, against real servers on the loopback interface."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web
from redis.asyncio import Redis

from spokes.audit.records import AuditRecord
from spokes.audit.rows import to_row
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.records import RecordView
from spokes.core.errors import LeaseLost
from spokes.core.events import Event
from spokes.core.telemetry.metrics import METRICS
from spokes.http.errors import HttpError, HttpNotSent, HttpRefusal, HttpUnavailable
from spokes.http.hosts import Host
from spokes.queue.dead_letters import DeadLetters
from spokes.routing import uses
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import PORTAL, Harness, change
from tests.workers.http.own_system import OwnSystem, Received

CANARY = "canary-of-a-body-4711"
Body = Callable[[Tools], Awaitable[Any]]


def register(harness: Harness, name: str, body: Body, *hosts: str | Host, **options: Any) -> None:
    """Register a handler for changes of the property `name` that runs `body`."""

    async def handler(event: Event, tools: Tools) -> None:
        await body(tools)

    handler.__name__ = name
    harness.router.register("contact.propertyChange", property=name)(uses(calls=hosts, **options)(handler))


async def run(harness: Harness, name: str, number: int = 1) -> AuditRecord:
    """Deliver a change of the property `name`; return the record of its outcome."""
    await harness.run((change(f"value {number}", number, name, number),))
    return [record for record in await recorded(harness.redis) if record.outcome][-1]


async def order(tools: Tools, url: str, **options: Any) -> Any:
    return await tools.http.post(f"{url}/orders", name="order", json={"amount": CANARY}, **options)


async def test_answer_of_a_declared_host_is_returned(harness: Harness, erp: OwnSystem) -> None:
    erp.answers = [web.json_response({"id": 7}, status=201, headers={"X-Trace": "t"})]
    answers: list[Any] = []

    async def body(tools: Tools) -> None:
        response = await tools.http.get(f"{erp.url}/orders", params={"page": 2}, headers={"X-Key": "k"})
        answers.append((response.status, response.json(), response.text(), response.headers["x-trace"]))

    register(harness, "reads", body, erp.url)
    assert (await run(harness, "reads")).outcome == "processed"
    assert answers == [(201, {"id": 7}, '{"id": 7}', "t")]
    (request,) = erp.requests
    assert (request.method, request.path, request.headers["X-Key"], request.key) == ("GET", "/orders?page=2", "k", "")
    assert request.headers["User-Agent"].startswith("spokes-hubspot/")


async def test_undeclared_host_is_not_called(harness: Harness, erp: OwnSystem, shop: OwnSystem) -> None:
    register(harness, "strays", lambda tools: order(tools, shop.url), erp.url)
    record = await run(harness, "strays")
    assert (record.outcome, record.reason, shop.requests) == ("dead", "http_not_sent", [])
    assert f"the handler did not declare {shop.url}" in describe(RecordView.from_row(to_row(record.as_dict())))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post"])
async def test_call_with_an_effect_needs_a_name_and_has_a_key(harness: Harness, erp: OwnSystem, method: str) -> None:
    async def body(tools: Tools) -> None:
        await tools.http.request(method, f"{erp.url}/orders/1", name="order")
        with pytest.raises(HttpNotSent, match="needs a name"):
            await tools.http.request(method, f"{erp.url}/orders/1")

    register(harness, "effects", body, erp.url)
    assert (await run(harness, "effects")).outcome == "processed"
    (request,) = erp.requests
    assert (request.method, len(request.key)) == (method.upper(), 36)


async def test_key_is_the_same_at_a_retry_and_differs_by_event_handler_and_name(
    harness: Harness, erp: OwnSystem
) -> None:
    async def two(tools: Tools) -> None:
        await tools.http.put(f"{erp.url}/a", name="first", data="x")
        await tools.http.patch(f"{erp.url}/a", name="second", data="x")

    register(harness, "one", two, erp.url)
    register(harness, "other", two, erp.url)
    raw = change("x", 1, "one")
    erp.answers = [web.Response(), web.Response(status=503)]
    for _ in range(2):
        await harness.run((raw,))
    await harness.run((change("x", 1, "other"),), (change("y", 2, "one"),))
    keys = [request.key for request in erp.requests]
    assert keys[:2] == keys[2:4]
    assert len(set(keys)) == 6


async def test_two_different_calls_of_one_name_are_refused_and_a_repetition_is_sent(
    harness: Harness, erp: OwnSystem
) -> None:
    async def body(tools: Tools) -> None:
        erp.answers = [web.Response(status=503), web.Response()]
        with pytest.raises(HttpUnavailable):
            await order(tools, erp.url)
        await order(tools, erp.url)
        await tools.http.post(f"{erp.url}/orders", name="order", json={"amount": 2})

    register(harness, "twice", body, erp.url)
    record = await run(harness, "twice")
    assert (record.outcome, record.reason) == ("dead", "http_not_sent")
    assert erp.requests[0].key == erp.requests[1].key
    assert len(erp.requests) == 2


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (500, "retried", "http_unavailable"), (503, "retried", "http_unavailable"),
        (429, "retried", "http_rate_limited"), (408, "retried", "http_unavailable"),
        (400, "dead", "http_refusal"), (401, "dead", "http_refusal"), (404, "dead", "http_refusal"),
        (409, "dead", "http_refusal"), (422, "dead", "http_refusal"),
    ],
)  # fmt: skip
async def test_status_decides_the_outcome_and_no_content_is_recorded(
    harness: Harness, redis: Redis, erp: OwnSystem, status: int, outcome: str, reason: str
) -> None:
    erp.answers = [web.Response(status=status, text=CANARY, headers={"X-Secret": CANARY})]
    register(harness, "fails", lambda tools: order(tools, f"{erp.url}"), erp.url)
    with structlog.testing.capture_logs() as lines:
        record = await run(harness, "fails")
    assert (record.outcome, record.reason) == (outcome, reason)
    (call,) = record.detail["http"]
    assert (call["host"], call["method"], call["status"]) == (erp.url, "POST", status)
    assert call["idempotency_key"] == erp.requests[0].key
    assert record.detail["failure"]["status"] == status
    assert f"POST {erp.url} {status}" in describe(RecordView.from_row(to_row(record.as_dict())))
    letters = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    assert CANARY not in f"{record} {lines} {[letter.failure for letter in letters]}"
    assert CANARY in erp.requests[0].body.decode()


async def test_accepted_status_is_returned(harness: Harness, erp: OwnSystem) -> None:
    erp.answers = [web.Response(status=404), web.Response(status=302, headers={"Location": "/x"})]
    statuses: list[int] = []

    async def body(tools: Tools) -> None:
        statuses.append((await tools.http.get(f"{erp.url}/orders/1", accept=(404,))).status)
        statuses.append((await tools.http.get(f"{erp.url}/orders/1", accept=(302,))).status)

    register(harness, "asks", body, erp.url)
    assert (await run(harness, "asks")).outcome == "processed"
    assert statuses == [404, 302]


async def test_retry_after_is_waited_for(harness: Harness, erp: OwnSystem) -> None:
    erp.answers = [web.Response(status=429, headers={"Retry-After": "45"})]
    register(harness, "limited", lambda tools: order(tools, erp.url), erp.url)
    record = await run(harness, "limited")
    assert 45 <= record.detail["delay_s"] <= 46.5


async def test_refused_connection_and_silent_host_are_retried(harness: Harness, erp: OwnSystem) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        register(harness, "silent", lambda tools: order(tools, url), Host(url, timeout_s=0.05))
        record = await run(harness, "silent")
        assert (record.outcome, record.reason) == ("retried", "http_unavailable")
        assert record.detail["failure"]["code"] == "timeout"
    register(harness, "closed", lambda tools: order(tools, url), Host(url))
    record = await run(harness, "closed", 2)
    assert (record.outcome, record.reason) == ("retried", "http_unavailable")
    assert record.detail["http"] == [{**record.detail["http"][0], "reason": "http_unavailable"}]


async def test_answer_that_is_too_large_is_refused(
    harness: Harness, erp: OwnSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.http.session._MAX_BODY_BYTES", 1000)
    erp.answers = [web.Response(body=b"x" * 2000)]
    register(harness, "large", lambda tools: tools.http.get(erp.url), erp.url)
    record = await run(harness, "large")
    assert (record.outcome, record.detail["failure"]["code"]) == ("dead", "response_too_large")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["nothing", "half", "no http", "no gzip"],
)
async def test_answer_that_breaks_off_or_is_unreadable_is_retried(harness: Harness, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    register(harness, "broken", lambda tools: tools.http.get(url), url)
    record = await run(harness, "broken")
    assert (record.outcome, record.reason) == ("retried", "http_unavailable")
    server.close()


async def test_redirects_are_followed_to_declared_hosts_alone(
    harness: Harness, erp: OwnSystem, shop: OwnSystem
) -> None:
    def to(url: str, status: int = 302) -> web.Response:
        return web.Response(status=status, headers={"Location": url})

    async def get(tools: Tools) -> None:
        await tools.http.get(f"{erp.url}/a", headers={"Authorization": "t"})

    register(harness, "both", get, erp.url, shop.url)
    register(harness, "single", get, erp.url)
    register(harness, "writes", lambda tools: order(tools, erp.url), erp.url, shop.url)
    erp.answers = [to("/b"), to(f"{shop.url}/c")]
    assert (await run(harness, "both")).outcome == "processed"
    assert [(request.path, "Authorization" in request.headers) for request in (*erp.requests, *shop.requests)] == [
        ("/a", True),
        ("/b", True),
        ("/c", False),
    ]
    erp.answers = [to(f"{shop.url}/d")]
    assert (await run(harness, "single", 2)).detail["failure"]["code"] == "redirect"
    erp.answers = [to("/loop") for _ in range(20)]
    assert (await run(harness, "single", 3)).detail["failure"]["code"] == "redirect"
    assert len(erp.answers) == 14
    erp.answers = [to(f"{shop.url}/e", 307)]
    assert (await run(harness, "writes", 4)).outcome == "processed"
    assert [request.path for request in shop.requests] == ["/c", "/e"]
    assert (shop.requests[-1].key, shop.requests[-1].body) == (erp.requests[-1].key, erp.requests[-1].body)


async def test_public_host_cannot_redirect_to_a_private_one(
    harness: Harness, erp: OwnSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = erp.url.replace("http://127.0.0.1", "http://localhost")
    erp.answers = [web.Response(status=302, headers={"Location": f"{erp.url}/inside"})]
    register(harness, "public", lambda tools: tools.http.get(f"{public}/a"), public, erp.url)
    assert (await run(harness, "public")).outcome == "processed"

    async def has_private_address(request: Any) -> bool:
        return str(request.url.host) == "127.0.0.1"

    monkeypatch.setattr("workers.http.session._has_private_address", has_private_address)
    erp.answers = [web.Response(status=302, headers={"Location": f"{erp.url}/inside"})]
    assert (await run(harness, "public", 2)).detail["failure"]["code"] == "redirect"
    assert [request.path for request in erp.requests] == ["/a", "/inside", "/a"]


async def test_cookies_are_not_kept(harness: Harness, erp: OwnSystem) -> None:
    erp.answers = [web.Response(headers={"Set-Cookie": "session=of-ada"})]
    register(harness, "cookies", lambda tools: tools.http.get(erp.url), erp.url)
    for number in (1, 2):
        await run(harness, "cookies", number)
    assert ["Cookie" in request.headers for request in erp.requests] == [False, False]


async def test_connections_of_a_host_are_limited(harness: Harness) -> None:
    now, most = 0, 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def body(tools: Tools) -> None:
        await asyncio.gather(*(tools.http.get(url) for _ in range(8)))

    register(harness, "many", body, Host(url, connections=2), timeout_s=20)
    assert (await run(harness, "many")).outcome == "processed"
    assert most == 2
    await runner.cleanup()


async def test_nothing_is_sent_after_the_lease_of_the_object_has_ended(harness: Harness, erp: OwnSystem) -> None:
    async def body(tools: Tools) -> None:
        harness.end_leases()
        with pytest.raises(LeaseLost):
            await order(tools, erp.url)
        raise LeaseLost

    register(harness, "late", body, erp.url)
    assert (await run(harness, "late")).reason == "lease_lost"
    assert erp.requests == []


async def test_calls_are_counted_by_declared_host(harness: Harness, erp: OwnSystem) -> None:
    erp.answers = [web.Response(status=404)]
    register(harness, "counted", lambda tools: tools.http.get(erp.url, accept=(404,)), erp.url)
    await run(harness, "counted")
    labels = {"host": erp.url, "outcome": "4xx"}
    assert METRICS.get_sample_value("spokes_http_calls_total", labels) == 1
    assert METRICS.get_sample_value("spokes_http_call_seconds_count", {"host": erp.url}) == 1


async def test_key_is_available_for_the_body(harness: Harness, erp: OwnSystem) -> None:
    async def body(tools: Tools) -> None:
        key = tools.http.idempotency_key("order")
        await tools.http.post(erp.url, name="order", json={"key": key})
        with pytest.raises(HttpNotSent):
            tools.http.idempotency_key("")

    register(harness, "keyed", body, erp.url)
    await run(harness, "keyed")
    assert orjson.loads(erp.requests[0].body) == {"key": erp.requests[0].key}


def test_errors_show_host_method_and_status_alone() -> None:
    error: HttpError = HttpRefusal("https://erp.example.com", "GET", status=404)
    assert str(error) == "http_refusal GET https://erp.example.com 404"
    assert error.fields() == {"host": "https://erp.example.com", "method": "GET", "status": 404}


def test_received_request_has_its_key() -> None:
    assert Received("GET", "/", {}, b"").key == ""
