"""The load generator, a process of its own; `python bench/lib/load.py --help`. It only writes and reads while timed.

Requests are made before the first is sent, and each is sent once; where a server may be sent them again (`--again`),
it is one that remembers nothing. The result is one line of JSON on standard output.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop
from lib import traffic
from lib.servers import cpu_seconds

_ANSWERS_WITHIN_S = 10.0  # after the last request was sent


@dataclass
class Result:
    """What a run saw; `seconds`, `cpu` and the latencies are of the time after the warm-up."""

    sent: int = 0  # requests, warm-up included; the first `sent` that were made
    answered: int = 0  # of the time after the warm-up
    seconds: float = 0.0
    other_answers: int = 0  # that were not 202, or that never came
    cpu: list[float] = field(default_factory=list)  # seconds of each watched process; the load's own is last
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class Load:
    """Connections that take requests from one heap until it is empty or the time is over."""

    def __init__(self, requests: list[bytes], *, again: bool, watch: list[int]) -> None:
        self.result = Result()
        self.latencies: list[float] = []
        self._requests = requests
        self._again = again
        self._watch = watch
        self._ends = 0.0
        self.open = 0
        self.done = asyncio.Event()

    def next_request(self) -> bytes | None:
        """Return what is to be sent next, or None when it is enough."""
        number = self.result.sent
        if time.perf_counter() >= self._ends or (number >= len(self._requests) and not self._again):
            return None
        self.result.sent += 1
        return self._requests[number % len(self._requests)]

    def closed(self) -> None:
        """Take note that a connection has ended its work."""
        self.open -= 1
        if not self.open:
            self.done.set()

    async def run(self, port: int, *, connections: int, warm_up_s: float, seconds: float, pause_ms: float) -> Result:
        """Send for `warm_up_s` and then `seconds`, pausing around `pause_ms` on a connection after each answer."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        self._ends = began + warm_up_s + seconds
        self.open = connections
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self, pause_ms), "127.0.0.1", port)
        await asyncio.sleep(warm_up_s)
        self.latencies.clear()
        cpu, counted_from = self._cpu(), time.perf_counter()
        async with asyncio.timeout(seconds + _ANSWERS_WITHIN_S):
            await self.done.wait()
        result = self.result
        result.seconds = time.perf_counter() - counted_from
        result.cpu = [after - before for after, before in zip(self._cpu(), cpu, strict=True)]
        result.answered = len(self.latencies)
        self.latencies.sort()
        if self.latencies:
            result.p50_ms = self.latencies[len(self.latencies) // 2] * 1000
            result.p99_ms = self.latencies[int(len(self.latencies) * 0.99)] * 1000
        return result

    def _cpu(self) -> list[float]:
        return [*(cpu_seconds(pid) for pid in self._watch), time.process_time()]


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self, load: Load, pause_ms: float) -> None:
        self._load = load
        self._pause_ms = pause_ms
        self._buffer = b""
        self._sent_at = 0.0
        self._busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is not one by name
        self._send()

    def _send(self) -> None:
        request = self._load.next_request()
        self._busy = request is not None
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take an answer, or a part of one."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        end = data.find(b"\r\n\r\n")
        place = data.find(b"Content-Length: ")
        if end < 0 or len(data) < end + 4 + int(data[place + 16 : data.find(b"\r", place)]):
            self._buffer = data
            return
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if not data.startswith(b"HTTP/1.1 202"):
            self._load.result.other_answers += 1
        if self._pause_ms:
            asyncio.get_running_loop().call_later(random.uniform(0.5, 1.5) * self._pause_ms / 1000, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that is still owed will not come."""
        del exc
        self._load.result.other_answers += self._busy
        self._load.closed()


def main() -> None:
    """Make the requests, send them, print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="events in a request")
    parser.add_argument("--first", type=int, default=0, help="number of the first event")
    parser.add_argument("--requests", type=int, required=True, help="how many are made")
    parser.add_argument("--again", action="store_true", help="start over when all are sent")
    parser.add_argument("--forged", action="store_true", help="with signatures that are not the requests'")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="between an answer and the next request")
    parser.add_argument("--watch", type=int, action="append", default=[], help="id of a process whose CPU is counted")
    given = parser.parse_args()
    now_ms = time.time_ns() // 1_000_000
    firsts = range(given.first, given.first + given.requests * given.batch, given.batch)
    requests = [
        traffic.request(traffic.body(first, given.batch, now_ms), now_ms, forged=given.forged) for first in firsts
    ]

    async def run() -> Result:
        load = Load(requests, again=given.again, watch=given.watch)
        return await load.run(
            given.port,
            connections=given.connections,
            warm_up_s=given.warm_up,
            seconds=given.seconds,
            pause_ms=given.pause_ms,
        )

    json.dump(asdict(uvloop.run(run())), sys.stdout)


if __name__ == "__main__":
    main()
