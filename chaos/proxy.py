"""A TCP proxy that can cut, delay and stall its connections. Bytes are lost only with their connection."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, Self

_CHUNK: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing is a reset


class Proxy:
    """Listens on its own port and forwards each connection to the local port that `port()` returns at that time."""

    def __init__(self, port: Callable[[], int]) -> None:
        self.port = 0
        self.delay_s = 0.0  # for each chunk of bytes, in both directions
        self._target_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection; bytes in transit are lost."""
        for writer in self._writers:
            if (sock := writer.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def stall(self) -> None:
        """Keep connections open and accept new ones, but transfer nothing."""
        self._flowing.clear()

    def resume(self) -> None:
        """Transfer everything again, without delay."""
        self.delay_s = 0.0
        self._flowing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port())
        except OSError:  # no process listens there: the client sees a reset, as without the proxy
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(target_writer)
        try:
            with contextlib.suppress(OSError):  # when one side is reset, the other is reset too
                await asyncio.gather(self._pump(reader, target_writer), self._pump(target_reader, writer))
        finally:
            for side in (writer, target_writer):
                side.transport.abort()
                self._writers.discard(side)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
