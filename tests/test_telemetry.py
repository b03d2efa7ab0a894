"""core.telemetry: what logs and Sentry get to see."""

import gzip
import io
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import orjson
import pytest
import sentry_sdk
import structlog

from core.settings import Settings
from core.telemetry import alert, report, setup

CANARY = "ann.canary@example.com"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    sentry_sdk.init()


def lines(environ: dict[str, str], **changes: str) -> io.StringIO:
    out = io.StringIO()
    setup(Settings.from_env({**environ, **changes}), "web", stream=out)
    return out


def test_line_is_json_with_the_process_and_the_event(environ: dict[str, str]) -> None:
    out = lines(environ)
    structlog.get_logger().info("request", status=202)
    line = orjson.loads(out.getvalue())
    assert (line["event"], line["status"], line["process"], line["level"]) == ("request", 202, "web", "info")


def test_columns_are_for_people(environ: dict[str, str]) -> None:
    out = lines(environ, LOG_FORMAT="columns")
    structlog.get_logger().info("request", status=202)
    assert "status=202" in out.getvalue()


def test_values_and_secrets_are_masked(environ: dict[str, str]) -> None:
    out = lines(environ)
    structlog.get_logger().info("x", note=f"from {CANARY}", email="hidden", token=environ["HUBSPOT_ACCESS_TOKEN"])
    structlog.get_logger().info("y", text=f"key {environ['HUBSPOT_CLIENT_SECRET']}")
    assert not any(
        word in out.getvalue()
        for word in (CANARY, "hidden", environ["HUBSPOT_CLIENT_SECRET"], environ["HUBSPOT_ACCESS_TOKEN"])
    )


def test_exception_is_logged_by_class_and_place(environ: dict[str, str]) -> None:
    out = lines(environ)
    try:
        raise ValueError(CANARY)
    except ValueError:
        structlog.get_logger().exception("broken")
    line = orjson.loads(out.getvalue())
    assert (line["error"], CANARY in out.getvalue()) == ("ValueError", False)
    assert line["error_at"].startswith("tests/test_telemetry.py:")


def test_lines_of_libraries_are_masked_too(environ: dict[str, str]) -> None:
    out = lines(environ)
    logging.getLogger("some.library").warning("mail from %s", CANARY)
    assert (CANARY in out.getvalue(), "mail from ***" in out.getvalue()) == (False, True)


def test_arq_is_silent_about_arguments(environ: dict[str, str]) -> None:
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
    """A local endpoint that plays Sentry."""
    server = _Sentry(("127.0.0.1", 0), _Ingest)
    server.received = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def setup_with(sentry: _Sentry, environ: dict[str, str]) -> None:
    lines(environ, SENTRY_DSN=f"http://key@127.0.0.1:{sentry.server_port}/1")


def test_exception_reaches_sentry_without_its_text(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    secret_local = CANARY
    try:
        raise ValueError(secret_local)
    except ValueError as error:
        report(error, handler="contacts.keep_reachable", email=CANARY)
    sentry_sdk.flush(5)
    (envelope,) = sentry.received
    assert b"ValueError" in envelope
    assert b"contacts.keep_reachable" in envelope
    assert CANARY.encode() not in envelope


def test_alert_reaches_log_and_sentry_under_one_name(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    alert("queue_filling", backlog=7, note=CANARY)
    sentry_sdk.flush(5)
    (envelope,) = sentry.received
    assert b"queue_filling" in envelope
    assert CANARY.encode() not in envelope


def test_lines_of_libraries_are_not_sent(sentry: _Sentry, environ: dict[str, str]) -> None:
    setup_with(sentry, environ)
    logging.getLogger("some.library").error("mail from %s", CANARY)
    sentry_sdk.flush(5)
    assert sentry.received == []
