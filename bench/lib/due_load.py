"""Requests that leave when they are due, whatever the server does: `python bench/lib/due_load.py --help`.

Request N is due N / rate seconds after the start; a request that no connection is free for opens another. Latencies are
counted from the due time, so a slow server cannot hide behind a load that waits for it. The result is a line of JSON on
standard output: the due time of each event in seconds since 1970, the latencies, and other answers than 202.
"""

import argparse
import asyncio
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final, cast

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # it is run as a script

import orjson
import uvloop

from bench.lib import traffic

_LEAD_S: Final = 0.5  # between the end of the preparations and the first request
_RESPONSE_TIMEOUT_S: Final = 30.0
_MAX_CONNECTIONS: Final = 64
_PHONE_CHANGE: Final = 9  # the kind of event, of those in `traffic`, that changes a phone number


class DueLoad:
    """Sends each request at its due time, over connections that are kept."""

    def __init__(self, port: int, requests: list[bytes], rate: float) -> None:
        """Send `rate` requests a second to a port of this machine."""
        self.latencies: list[float] = []
        self.other_responses = 0
        self.due: list[float] = []
        self._port = port
        self._requests = requests
        self._rate = rate
        self._backlog: deque[tuple[bytes, float]] = deque()
        self._idle: list[DueConnection] = []
        self._connections = 0
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Send everything and wait for the answers."""
        loop = asyncio.get_running_loop()
        start, epoch = loop.time() + _LEAD_S, time.time() + _LEAD_S
        for number, request in enumerate(self._requests):
            due_s = number / self._rate
            self.due.append(epoch + due_s)
            delay = start + due_s - loop.time()
            if delay > 0.0005:
                await asyncio.sleep(delay)
            self._backlog.append((request, start + due_s))
            await self._send_next()
        async with asyncio.timeout(_RESPONSE_TIMEOUT_S):
            await self._done.wait()

    async def _send_next(self) -> None:
        if self._idle:
            self._idle.pop().send(*self._backlog.popleft())
        elif self._connections < _MAX_CONNECTIONS:
            self._connections += 1
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: DueConnection(self), "127.0.0.1", self._port)
            self.became_idle(connection)

    def answered(self, latency_s: float, *, is_accepted: bool) -> None:
        """Count an answer."""
        self.latencies.append(latency_s)
        self.other_responses += not is_accepted
        if len(self.latencies) == len(self._requests):
            self._done.set()

    def became_idle(self, connection: "DueConnection") -> None:
        """Give a free connection the next request, if one is due."""
        if self._backlog:
            connection.send(*self._backlog.popleft())
        else:
            self._idle.append(connection)


class DueConnection(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, load: DueLoad) -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at `due`, on the loop's clock."""
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read one answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length_at = self._buffer.find(b"Content-Length: ")
        if end < 0 or len(self._buffer) < end + 4 + int(self._buffer[length_at + 16 :].partition(b"\r")[0]):
            return
        is_accepted = self._buffer.startswith(b"HTTP/1.1 202")
        self._buffer = b""
        self._load.answered(asyncio.get_running_loop().time() - self._due, is_accepted=is_accepted)
        self._load.became_idle(self)


def phone_changes(first: int, batch: int, now_ms: int, source: str = "CRM_UI") -> bytes:
    """Return a body of phone changes of a changeSource; the numbers of its events start at `first`."""
    numbers = range(first * 10 + _PHONE_CHANGE, (first + batch) * 10 + _PHONE_CHANGE, 10)
    body = b"[" + b",".join([traffic.event(number, now_ms) for number in numbers]) + b"]"
    return body.replace(b'"changeSource":"CRM_UI"', b'"changeSource":"%b"' % source.encode())


def object_id_of(number: int) -> int:
    """Return the id of the contact that phone change `number` is about."""
    return traffic.FIRST_OBJECT + number * 10 + _PHONE_CHANGE


def main() -> None:
    """Build the requests, send them, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="events in a request")
    parser.add_argument("--rate", type=float, required=True, help="events a second; 0: all at once")
    parser.add_argument("--first", type=int, default=0, help="number of the first event")
    parser.add_argument("--source", default="CRM_UI", help="changeSource of the events")
    arguments = parser.parse_args()
    now_ms = time.time_ns() // 1_000_000
    firsts = range(arguments.first, arguments.first + arguments.events, arguments.batch)
    requests = [
        traffic.request(phone_changes(first, arguments.batch, now_ms, arguments.source), now_ms) for first in firsts
    ]
    load = DueLoad(arguments.port, requests, (arguments.rate or 1e9) / arguments.batch)
    uvloop.run(load.run())
    sys.stdout.buffer.write(
        orjson.dumps({"due": load.due, "latencies": load.latencies, "other_responses": load.other_responses})
    )


if __name__ == "__main__":
    main()
