"""spokes.core.signals, in the processes that use it: told to end early, late, and over and over."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.deployment import ROOT

PROCESSES = [("workers", "1"), ("ingest", "1"), ("ingest", "2")]  # and WEB_CONCURRENCY


@contextmanager
def process(module: str, environ: dict[str, str], port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    away = {"HUBSPOT_API_URL": "http://127.0.0.1:9", "DATABASE_URL": "postgres://127.0.0.1:1/x", "PORT": str(port)}
    started = subprocess.Popen(
        [sys.executable, *options, "-m", module], cwd=ROOT, env={**os.environ, **environ, **away},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def listens(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    pytest.fail("it does not listen")


def says(started: subprocess.Popen[bytes], words: bytes) -> None:
    assert started.stderr is not None
    while words not in (line := started.stderr.readline()):
        assert line, "it ended without saying so"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("module", "concurrency"), PROCESSES)
def test_process_that_is_told_to_end_while_it_loads_does_so_at_once(
    module: str, concurrency: str, number: signal.Signals, environ: dict[str, str], unused_tcp_port: int
) -> None:
    with process(module, {**environ, "WEB_CONCURRENCY": concurrency}, unused_tcp_port, "-X", "importtime") as started:
        says(started, b"pydantic")
        started.send_signal(number)
        assert started.wait(10) == 0


@pytest.mark.parametrize(("module", "concurrency"), PROCESSES)
def test_process_that_is_told_to_end_over_and_over_ends_well(
    module: str, concurrency: str, environ: dict[str, str], unused_tcp_port: int
) -> None:
    with process(module, {**environ, "WEB_CONCURRENCY": concurrency}, unused_tcp_port) as started:
        if module == "ingest":
            listens(unused_tcp_port)
        else:
            says(started, b"worker_ready")
        until = time.monotonic() + 30
        while started.poll() is None and time.monotonic() < until:
            started.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert started.returncode == 0
