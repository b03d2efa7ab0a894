"""spokes.core.process.signals in real processes: a signal while loading, and repeated signals during shutdown."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bench.hubspots.token_info import token_info_server
from tests.support.deployment import ROOT

pytestmark = pytest.mark.slow  # each test starts processes

PROCESSES = [("workers", "1"), ("ingest", "1"), ("ingest", "2")]  # module and WEB_CONCURRENCY


@contextmanager
def process(module: str, environ: dict[str, str], port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with token_info_server(7) as hubspot_url:
        addresses = {"DATABASE_URL": "postgres://127.0.0.1:1/x", "PORT": str(port)}
        variables = {**os.environ, "HUBSPOT_API_URL": hubspot_url, **environ, **addresses}
        started = subprocess.Popen(
            [sys.executable, *options, "-m", module], cwd=ROOT, env=variables, stderr=subprocess.PIPE
        )
        try:
            yield started
        finally:
            started.kill()
            started.communicate()


def wait_until_listening(port: int) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    pytest.fail("the process does not listen")


def wait_for_output(started: subprocess.Popen[bytes], text: bytes) -> None:
    assert started.stderr is not None
    while text not in (line := started.stderr.readline()):
        assert line, "the process exited first"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("module", "concurrency"), PROCESSES)
def test_signal_while_loading_ends_the_process_with_status_zero(
    module: str, concurrency: str, number: signal.Signals, environ: dict[str, str], unused_tcp_port: int
) -> None:
    with process(module, {**environ, "WEB_CONCURRENCY": concurrency}, unused_tcp_port, "-X", "importtime") as started:
        wait_for_output(started, b"pydantic")
        started.send_signal(number)
        assert started.wait(90) == 0


@pytest.mark.parametrize(("module", "concurrency"), PROCESSES)
def test_repeated_signals_end_the_process_with_status_zero(
    module: str, concurrency: str, environ: dict[str, str], unused_tcp_port: int
) -> None:
    with process(module, {**environ, "WEB_CONCURRENCY": concurrency}, unused_tcp_port) as started:
        if module == "ingest":
            wait_until_listening(unused_tcp_port)
        else:
            wait_for_output(started, b"worker_ready")
        until = time.monotonic() + 90
        while started.poll() is None and time.monotonic() < until:
            started.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert started.returncode == 0


def test_signal_ends_a_worker_that_waits_for_hubspot(environ: dict[str, str], unused_tcp_port: int) -> None:
    with process("workers", {**environ, "HUBSPOT_API_URL": "http://127.0.0.1:9"}, unused_tcp_port) as started:
        wait_for_output(started, b"token_portal_unknown")
        started.send_signal(signal.SIGTERM)
        assert started.wait(90) == 0
