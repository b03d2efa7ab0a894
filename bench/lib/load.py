"""The load generator, which runs as a separate process: `python bench/lib/load.py --help`.

All requests are built before the first is sent, so that it only writes and reads during the measurement. Each request
is sent once, except with `--again`, for servers that do not deduplicate. The result is a line of JSON on standard
output.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # it is run as a script

import uvloop

from bench.lib import traffic
from bench.lib.servers import cpu_seconds

_RESPONSE_TIMEOUT_S = 10.0  # after the last request was sent


@dataclass
class LoadResult:
    """The result of a run; `seconds`, `cpu` and the latencies cover the time after the warm-up."""

    sent: int = 0  # requests, warm-up included; always the first `sent` of those built
    answered: int = 0  # after the warm-up
    seconds: float = 0.0
    other_responses: int = 0  # responses that were not 202 or never came
    cpu: list[float] = field(default_factory=list)  # seconds of each watched process; the load's own is last
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class LoadGenerator:
    """Connections that send a shared list of requests until it is empty or the time is over."""

    def __init__(self, requests: list[bytes], *, repeat: bool, watch: list[int]) -> None:
        self.result = LoadResult()
        self.latencies: list[float] = []
        self._requests = requests
        self._repeat = repeat
        self._watch = watch
        self._ends_at = 0.0
        self.open_connections = 0
        self.done = asyncio.Event()

    def next_request(self) -> bytes | None:
        """Return the next request to send, or None at the end."""
        number = self.result.sent
        if time.perf_counter() >= self._ends_at or (number >= len(self._requests) and not self._repeat):
            return None
        self.result.sent += 1
        return self._requests[number % len(self._requests)]

    def connection_closed(self) -> None:
        """Count a closed connection; set `done` after the last one."""
        self.open_connections -= 1
        if not self.open_connections:
            self.done.set()

    async def run(
        self, port: int, *, connections: int, warm_up_s: float, seconds: float, pause_ms: float
    ) -> LoadResult:
        """Send for `warm_up_s` and then `seconds`; each connection pauses about `pause_ms` after each response."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        self._ends_at = began + warm_up_s + seconds
        self.open_connections = connections
        for _ in range(connections):
            await loop.create_connection(lambda: LoadConnection(self, pause_ms), "127.0.0.1", port)
        await asyncio.sleep(warm_up_s)
        self.latencies.clear()
        cpu, counted_from = self._cpu(), time.perf_counter()
        async with asyncio.timeout(seconds + _RESPONSE_TIMEOUT_S):
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


class LoadConnection(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, load: LoadGenerator, pause_ms: float) -> None:
        self._load = load
        self._pause_ms = pause_ms
        self._buffer = b""
        self._sent_at = 0.0
        self._busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it
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
        """Buffer data until the response is complete, then send the next request."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        end = data.find(b"\r\n\r\n")
        length_at = data.find(b"Content-Length: ")
        if end < 0 or len(data) < end + 4 + int(data[length_at + 16 : data.find(b"\r", length_at)]):
            self._buffer = data
            return
        self._load.latencies.append(time.perf_counter() - self._sent_at)
        if not data.startswith(b"HTTP/1.1 202"):
            self._load.result.other_responses += 1
        if self._pause_ms:
            asyncio.get_running_loop().call_later(random.uniform(0.5, 1.5) * self._pause_ms / 1000, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a missing response as an error."""
        del exc
        self._load.result.other_responses += self._busy
        self._load.connection_closed()


def main() -> None:
    """Build the requests, send them, print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="events in a request")
    parser.add_argument("--first", type=int, default=0, help="number of the first event")
    parser.add_argument("--requests", type=int, required=True, help="number of requests to build")
    parser.add_argument("--again", action="store_true", help="start over after the last request")
    parser.add_argument("--forged", action="store_true", help="sign requests with the signature of another body")
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="between a response and the next request")
    parser.add_argument(
        "--watch", type=int, action="append", default=[], help="id of a process whose CPU time is measured"
    )
    arguments = parser.parse_args()
    now_ms = time.time_ns() // 1_000_000
    firsts = range(arguments.first, arguments.first + arguments.requests * arguments.batch, arguments.batch)
    requests = [
        traffic.request(traffic.body(first, arguments.batch, now_ms), now_ms, forged=arguments.forged)
        for first in firsts
    ]

    async def run() -> LoadResult:
        load = LoadGenerator(requests, repeat=arguments.again, watch=arguments.watch)
        return await load.run(
            arguments.port,
            connections=arguments.connections,
            warm_up_s=arguments.warm_up,
            seconds=arguments.seconds,
            pause_ms=arguments.pause_ms,
        )

    json.dump(asdict(uvloop.run(run())), sys.stdout)


if __name__ == "__main__":
    main()
