"""Play cases against a server over sockets, with a time-out for every wait, and return the responses."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from bench.fuzzing.parts import Case, ConnectionEnd

RESPONSE_TIMEOUT_S: Final = 20.0  # a busy machine may take seconds
_LINGER_RESET: Final = struct.pack(
    "ii", 1, 0
)  # SO_LINGER: close resets the connection, so that no port stays in TIME_WAIT
_EXTRA_RESPONSE_S: Final = 0.005  # time for an unexpected response


@dataclass
class PlayResult:
    """The responses to a case."""

    statuses: list[int] = field(default_factory=list)
    hung: bool = False  # neither a response nor the end of the connection in time


class Player:
    """One client that keeps its connection as long as possible."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.history: list[int] = []  # numbers of the cases played on this connection

    async def play(self, number: int, case: Case) -> PlayResult:
        """Send a case and wait for its responses."""
        reader, writer = await self._connected()
        self.history.append(number)
        seen = PlayResult()
        try:
            is_reusable = await self._exchange(case, reader, writer, seen)
        except TimeoutError:
            is_reusable, seen.hung = False, True
        except (OSError, asyncio.IncompleteReadError):
            is_reusable = False
        if not is_reusable:
            self.close()
        return seen

    def close(self) -> None:
        """Reset the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self.history = []
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        return self._reader, self._writer

    async def _exchange(
        self, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: PlayResult
    ) -> bool:
        """Send a case, read its responses, and return whether the connection can be used again."""
        writing = asyncio.create_task(_write(case, writer))
        try:
            bodiless = case.pieces[0].startswith(b"HEAD ")
            if case.connection_end is ConnectionEnd.EOF:
                while await _read_response(reader, seen, bodiless=bodiless):
                    pass
                return False
            is_open = True
            while is_open and len(seen.statuses) < case.responses:
                is_open = await _read_response(reader, seen, bodiless=bodiless)
            if not case.responses:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_EXTRA_RESPONSE_S):
                        await _read_response(reader, seen, bodiless=bodiless)
            return is_open and case.connection_end is ConnectionEnd.KEEP
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await writing


async def _write(case: Case, writer: asyncio.StreamWriter) -> None:
    for piece in case.pieces:
        writer.write(piece)
        await writer.drain()
        if case.pause_s:
            await asyncio.sleep(case.pause_s)
    if case.connection_end is ConnectionEnd.EOF:
        writer.write_eof()


async def _read_response(reader: asyncio.StreamReader, seen: PlayResult, *, bodiless: bool) -> bool:
    """Read one final response into `seen`; return whether another can follow on this connection.

    Raises:
        TimeoutError: neither the response nor the end of the connection came in time.
    """
    async with asyncio.timeout(RESPONSE_TIMEOUT_S):
        return await _read_final_response(reader, seen, bodiless=bodiless)


async def _read_final_response(reader: asyncio.StreamReader, seen: PlayResult, *, bodiless: bool) -> bool:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        status = int(head[9:12])
        if status >= 200:
            break
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if not bodiless:
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
    seen.statuses.append(status)
    # aiohttp's own error responses have no request id; they close the connection without a Connection header.
    return fields.get(b"connection") != b"close" and b"x-request-id" in fields
