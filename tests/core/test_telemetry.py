"""spokes.core.telemetry: contents of log lines and Sentry events."""

import asyncio
import gc
import gzip
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import orjson
import pytest
import sentry_sdk
import structlog
from redis.asyncio import Redis

from spokes.core.settings import Settings
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event
from spokes.core.telemetry.sentry import record_span, release
from spokes.core.telemetry.setup import log_alert, log_canonical_line, report_error, setup_telemetry
from spokes.core.version import VERSION
from tests.support.deployment import ROOT

CANARY = "ann.canary@example.com"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.getLogger("asyncio").handlers = []
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    sentry_sdk.init()


def lines(environ: dict[str, str], **changes: str) -> io.StringIO:
    out = io.StringIO()
    setup_telemetry(Settings.from_env({**environ, **changes}), "web", stream=out)
    return out


def test_line_is_json_with_the_process_and_the_event(environ: dict[str, str]) -> None:
    out = lines(environ)
    structlog.get_logger().info("request", status=202)
    line = orjson.loads(out.getvalue())
    assert (line["event"], line["status"], line["process"], line["level"]) == ("request", 202, "web", "info")


def test_columns_show_fields_as_text(environ: dict[str, str]) -> None:
    out = lines(environ, LOG_FORMAT="columns")
    structlog.get_logger().info("request", status=202)
    assert "status=202" in out.getvalue()


def test_values_and_secrets_are_masked(environ: dict[str, str]) -> None:
    out = lines(environ)
    structlog.get_logger().info("x", note=f"from {CANARY}", email="hidden", token=environ["HUBSPOT_ACCESS_TOKEN"])
    structlog.get_logger().info("y", text=f"key {environ['HUBSPOT_CLIENT_SECRET']}")
    assert not any(
        text in out.getvalue()
        for text in (CANARY, "hidden", environ["HUBSPOT_CLIENT_SECRET"], environ["HUBSPOT_ACCESS_TOKEN"])
    )


def test_exception_is_logged_by_class_and_place(environ: dict[str, str]) -> None:
    out = lines(environ)
    try:
        raise ValueError(CANARY)
    except ValueError:
        structlog.get_logger().exception("broken")
    line = orjson.loads(out.getvalue())
    assert (line["error"], CANARY in out.getvalue()) == ("ValueError", False)
    assert line["error_at"].startswith("tests/core/test_telemetry.py:")


def test_lines_of_libraries_are_masked_too(environ: dict[str, str]) -> None:
    out = lines(environ)
    logging.getLogger("some.library").warning("mail from %s", CANARY)
    assert (CANARY in out.getvalue(), "mail from ***" in out.getvalue()) == (False, True)


def test_job_arguments_logged_by_arq_are_dropped(environ: dict[str, str]) -> None:
    out = lines(environ)
    logging.getLogger("arq.worker").info("process_delivery(%s)", CANARY)
    assert out.getvalue() == ""


class _Sentry(HTTPServer):
    received: list[bytes]


class _Ingest(BaseHTTPRequestHandler):
    server: _Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def sentry() -> Iterator[_Sentry]:
    """A local endpoint in place of Sentry."""
    server = _Sentry(("127.0.0.1", 0), _Ingest)
    server.received = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def setup_with(sentry: _Sentry, environ: dict[str, str], **changes: str) -> None:
    lines(environ, SENTRY_DSN=f"http://key@127.0.0.1:{sentry.server_port}/1", **changes)


def items(sentry: _Sentry) -> list[dict[str, Any]]:
    """Return the items of all envelopes received."""
    sentry_sdk.flush(5)
    return [orjson.loads(line) for envelope in sentry.received for line in envelope.splitlines()[2::2]]


@pytest.mark.slow  # starts two processes
async def test_alert_of_a_command_reaches_sentry(sentry: _Sentry, environ: dict[str, str], redis: Redis) -> None:
    command_environ = {**os.environ, **environ, "SENTRY_DSN": f"http://key@127.0.0.1:{sentry.server_port}/1"}
    for verb in ("pause", "resume"):
        command = [sys.executable, "-m", "spokes", verb, "7", "--reason", "by hand", "--json"]
        finished = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=command_environ, capture_output=True, timeout=60, check=True
        )
        assert [orjson.loads(line)["portal_id"] for line in finished.stdout.splitlines()] == [7]
    assert [item["message"] for item in items(sentry)] == ["portal_paused", "portal_paused_over"]


def test_exception_reaches_sentry_without_its_text(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    secret_local = CANARY
    try:
        raise ValueError(secret_local)
    except ValueError as error:
        report_error(error, handler="contacts.keep_reachable", email=CANARY)
    sentry_sdk.flush(5)
    (envelope,) = sentry.received
    assert b"ValueError" in envelope
    assert b"contacts.keep_reachable" in envelope
    assert CANARY.encode() not in envelope


@pytest.mark.parametrize("name", ["message", "detail", "__cause__", "__traceback__", "__notes__"])
def test_exception_whose_attributes_raise_reaches_sentry(sentry: _Sentry, environ: dict[str, str], name: str) -> None:
    def refuse(_: object) -> object:
        raise RuntimeError

    setup_with(sentry, environ)
    report_error(type("Odd", (Exception,), {name: property(refuse), "__str__": refuse})(), handler="contacts.greet")
    assert len(items(sentry)) == 1


def test_alert_reaches_log_and_sentry_under_one_name(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    log_alert("queue_filling", backlog=7, note=CANARY)
    sentry_sdk.flush(5)
    (envelope,) = sentry.received
    assert b"queue_filling" in envelope
    assert CANARY.encode() not in envelope


def test_lines_of_libraries_are_not_sent(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    logging.getLogger("some.library").error("mail from %s", CANARY)
    sentry_sdk.flush(5)
    assert sentry.received == []


def raise_here(number: int) -> None:
    raise ValueError(number)


def raise_there(number: int) -> None:
    raise ValueError(number)


def test_errors_are_grouped_by_handler_class_and_place(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    cases = [("a", raise_here), ("a", raise_here), ("b", raise_here), ("a", raise_there)]
    for number, (handler, function) in enumerate(cases):
        try:
            function(number)
        except ValueError as error:
            report_error(error, handler=handler)
    groups = [tuple(item["fingerprint"]) for item in items(sentry)]
    assert (len(groups), len(set(groups)), groups[0] == groups[1]) == (4, 3, True)


async def test_error_of_a_task_that_nothing_awaits_reaches_sentry(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)

    async def fail() -> None:
        raise ValueError(CANARY)

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    (item,) = items(sentry)
    assert item["contexts"]["fields"]["message"] == "Task exception was never retrieved"
    assert item["fingerprint"][:2] == ["asyncio", "ValueError"]
    assert CANARY not in str(sentry.received)


def test_call_without_await_is_logged_in_words(environ: dict[str, str]) -> None:
    source = """
import sys
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import setup_telemetry
setup_telemetry(Settings.from_env(), "worker")
async def update(): ...
update()
"""
    command_environ = {**environ, "PATH": os.environ["PATH"], "LOG_FORMAT": "json"}
    ended = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=command_environ, capture_output=True, text=True, check=True
    )
    (line,) = map(orjson.loads, ended.stderr.splitlines())
    assert (line["event"], line["coroutine"], line["at"]) == ("coroutine_never_awaited", "update", "<string>:7")
    assert line["advice"] == "update was called without await, so it did nothing. Write await before the call."


def test_sentry_events_have_release_and_environment(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ, SENTRY_ENVIRONMENT="staging", HEROKU_SLUG_COMMIT="0123456789abcdef0123")
    log_alert("queue_filling")
    [item] = items(sentry)
    assert (item["release"], item["environment"]) == (f"spokes@{VERSION}+0123456789ab", "staging")
    assert (item["fingerprint"], item["tags"]["process"]) == (["queue_filling"], "web")


def test_release_name_can_be_set(environ: dict[str, str]) -> None:
    assert release(Settings.from_env({**environ, "SENTRY_RELEASE": "v42"})) == "v42"


def test_version_is_that_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in text


@pytest.mark.parametrize(("rate", "sent"), [("0", 0), ("1", 3)])
def test_spans_are_sent_by_the_traces_rate(sentry: _Sentry, environ: dict[str, str], rate: str, sent: int) -> None:
    setup_with(sentry, environ, SENTRY_TRACES_RATE=rate)
    for name in ("receive", "process_delivery", "contacts.keep_reachable"):
        record_span("handler", name, 2.5)
    transactions = [item for item in items(sentry) if item.get("type") == "transaction"]
    assert len(transactions) == sent
    for item in transactions:
        assert 2.4 < seconds(item["timestamp"]) - seconds(item["start_timestamp"]) < 2.6
        assert {"request", "user", "server_name", "modules"} & set(item) == set()


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def test_security_event_is_a_marked_log_line(environ: dict[str, str]) -> None:
    out = lines(environ)
    log_security_event(SecurityEvent.LOGIN_FAILED, actor="eve", address="192.0.2.7", password="hunter2")
    line = orjson.loads(out.getvalue())
    assert (line["event"], line["security"], line["level"], line["actor"]) == ("login_failed", True, "warning", "eve")
    assert "hunter2" not in out.getvalue()


@pytest.mark.parametrize("form", ["json", "columns"])
@pytest.mark.parametrize(("level", "shown"), [("INFO", True), ("WARNING", False)])
def test_canonical_line_is_written_at_info(environ: dict[str, str], form: str, level: str, shown: bool) -> None:
    out = lines(environ, LOG_FORMAT=form, LOG_LEVEL=level)
    log_canonical_line("delivery", {"delivery_id": "7-1-1"})
    assert ("7-1-1" in out.getvalue()) is shown


def test_every_security_event_is_documented() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    assert [event for event in SecurityEvent if f"`{event}`" not in text] == []


def test_columns_omit_empty_values_and_put_ids_last(environ: dict[str, str]) -> None:
    out = lines(environ, LOG_FORMAT="columns")
    fields = {"request_id": "5a9b", "status": 202, "reason": "", "ms": 1.2, "deliveries": ["7-1-1"], "duplicate": 0}
    log_canonical_line("request", fields)
    assert out.getvalue().partition(" ")[2] == "request   status=202 ms=1.2 5a9b 7-1-1\n"


@pytest.mark.parametrize(("level", "sign"), [("info", "x "), ("warning", "! x "), ("error", "!! x ")])
def test_columns_mark_warnings_and_errors_without_colours(environ: dict[str, str], level: str, sign: str) -> None:
    out = lines(environ, LOG_FORMAT="columns")
    getattr(structlog.get_logger(), level)("x", names=["a", "b", "c", "d", "e", "f"])
    line = out.getvalue().partition(" ")[2]
    assert (line.startswith(sign), "names=a,b,c,d,e,... 6 in all" in line, "\033" in line) == (True, True, False)


NO_COLOUR = {"FORCE_COLOR": "1", "NO_COLOR": "1"}


@pytest.mark.parametrize(("variables", "coloured"), [({"FORCE_COLOR": "1"}, True), (NO_COLOUR, False)])
def test_colours_follow_the_environment(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = lines(environ, LOG_FORMAT="columns")
    structlog.get_logger().info("x", status=202)
    assert ("\033[" in out.getvalue()) is coloured


def test_printed_text_is_masked(environ: dict[str, str]) -> None:
    """On both streams, also when a value is printed in parts or in an unfinished last line."""
    program = """
import sys
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import setup_telemetry
setup_telemetry(Settings.from_env(), "worker")
print("calling 202-555-", end="", flush=True)
print("0147")
print("ann.canary@example.com", file=sys.stderr)
print("to (202) 555-0147", end="")
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT, check=True)
    assert (run.stdout, run.stderr) == ("calling ***\nto ***", "***\n")
