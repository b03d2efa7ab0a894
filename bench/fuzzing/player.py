"""Play cases against a server over sockets. Rule: every wait ends, and what was seen is returned, not judged."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from fuzzing.parts import Case, End

ANSWERS_WITHIN_S: Final = 20.0  # a machine that does much else may take seconds; what hangs, hangs for good
_RESETS: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets, so that no port waits for late segments
_UNASKED_S: Final = 0.005  # time for an answer that is not owed


@dataclass
class Seen:
    """What came back for a case."""

    statuses: list[int] = field(default_factory=list)
    hung: bool = False  # neither an answer nor the end of the connection came in time


class Player:
    """One sender that keeps its connection as long as both sides do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.history: list[int] = []  # numbers of the cases that this connection has seen

    async def play(self, number: int, case: Case) -> Seen:
        """Send a case and wait for what is owed."""
        reader, writer = await self._connected()
        self.history.append(number)
        seen = Seen()
        try:
            kept = await self._exchange(case, reader, writer, seen)
        except TimeoutError:
            kept, seen.hung = False, True
        except (OSError, asyncio.IncompleteReadError):
            kept = False
        if not kept:
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
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
        return self._reader, self._writer

    async def _exchange(
        self, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen
    ) -> bool:
        """Return whether the connection can be used again."""
        writing = asyncio.create_task(_write(case, writer))
        try:
            bodiless = case.pieces[0].startswith(b"HEAD ")
            if case.end is End.EOF:
                while await _answer(reader, seen, bodiless=bodiless):
                    pass
                return False
            going_on = True
            while going_on and len(seen.statuses) < case.answers:
                going_on = await _answer(reader, seen, bodiless=bodiless)
            if not case.answers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_UNASKED_S):
                        await _answer(reader, seen, bodiless=bodiless)
            return going_on and case.end is End.KEEP
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
    if case.end is End.EOF:
        writer.write_eof()


async def _answer(reader: asyncio.StreamReader, seen: Seen, *, bodiless: bool) -> bool:
    """Read one final answer into `seen`; return whether another can follow on this connection.

    Raises:
        TimeoutError: neither the answer nor the end of the connection came in time.
    """
    async with asyncio.timeout(ANSWERS_WITHIN_S):
        return await _read(reader, seen, bodiless=bodiless)


async def _read(reader: asyncio.StreamReader, seen: Seen, *, bodiless: bool) -> bool:
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
    # An answer of aiohttp's own, which has no id, is the last one; it does not say so.
    return fields.get(b"connection") != b"close" and b"x-request-id" in fields
