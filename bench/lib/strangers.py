"""Strangers who use up what a web process has: idle connections, event streams, large bodies without a signature."""

import asyncio
import contextlib
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psutil  # type: ignore[import-untyped]  # ships no types

IDLE: Final = 1_000
STREAMS: Final = 200
BODIES: Final = 200
_BODY_BYTES: Final = 10 * 1024 * 1024
_PIECE: Final = b" " * 65_536
_HEAD: Final = b"POST /webhooks/hubspot HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\n"
_FILES: Final = 4_096


@dataclass
class SiegeResult:
    """Responses to the large bodies and the streams (0: none), and the largest memory of the web process, in MB."""

    bodies: Counter[int] = field(default_factory=Counter)
    streams: Counter[int] = field(default_factory=Counter)
    max_mb: float = 0.0


@contextmanager
def siege(port: int, pid: int, cookie: str, forged_headers: bytes = b"") -> Iterator[SiegeResult]:
    """Open all connections, then send the bodies at once, again and again while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES)), hard))
    result, stop, started = SiegeResult(), threading.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_besiege(port, pid, cookie, forged_headers, result, stop, started))
    )
    thread.start()
    started.wait(30)
    try:
        yield result
    finally:
        stop.set()
        thread.join()


async def _besiege(  # noqa: PLR0917 - the arguments of one thread
    port: int,
    pid: int,
    cookie: str,
    forged_headers: bytes,
    result: SiegeResult,
    stop: threading.Event,
    started: threading.Event,
) -> None:
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(IDLE)]
    stream = b"GET /console/now/live HTTP/1.1\r\nHost: localhost\r\nCookie: " + cookie.encode() + b"\r\n\r\n"
    tasks = [asyncio.create_task(_open_stream(port, stream, result, writers)) for _ in range(STREAMS)]
    tasks += [asyncio.create_task(_send_bodies(port, forged_headers, result, stop)) for _ in range(BODIES)]
    process = psutil.Process(pid)
    started.set()
    while not stop.is_set():
        result.max_mb = max(result.max_mb, process.memory_info().rss / 1e6)
        await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()


async def _open_stream(port: int, request: bytes, result: SiegeResult, writers: list[asyncio.StreamWriter]) -> None:
    status = 0
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(request)
        status = int((await reader.readline())[9:12] or 0)
    result.streams[status] += 1


async def _send_bodies(port: int, forged_headers: bytes, result: SiegeResult, stop: threading.Event) -> None:
    head = _HEAD + forged_headers + b"Content-Length: %d\r\n\r\n" % _BODY_BYTES
    while not stop.is_set():
        status, began = 0, time.monotonic()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sending = asyncio.create_task(_write_body(writer, head))
            try:
                status = int((await reader.readline())[9:12] or 0)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                writer.transport.abort()
        result.bodies[status] += 1
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


async def _write_body(writer: asyncio.StreamWriter, head: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(head)
        for _ in range(_BODY_BYTES // len(_PIECE)):
            writer.write(_PIECE)
            await writer.drain()
