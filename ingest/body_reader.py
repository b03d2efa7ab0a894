"""Read request bodies within a time and within one amount of memory for all requests together.

A signature can be verified only once the whole body has arrived. What is longer than the first bytes of each counts
towards a total; of that total, one client may use half, so that no client alone can exclude the others.
"""

import asyncio
from collections import Counter
from typing import Final

from aiohttp import web

from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import client_address, client_network

_MAX_TOTAL_BYTES: Final = 24 * 1024 * 1024  # of all bodies that are being read; above the largest MAX_BODY_BYTES
_UNCOUNTED_BYTES: Final = 64 * 1024  # of each body; the limit on connections bounds their sum
_RETRY_AFTER_S: Final = 10


class BodyReader:
    """Reads the bodies of one process' requests."""

    def __init__(self, *, timeout_s: float, trusted_proxies: int, max_total_bytes: int = _MAX_TOTAL_BYTES) -> None:
        """Allow `timeout_s` for a body, and `max_total_bytes` for those being read at a time."""
        self._timeout_s = timeout_s
        self._trusted_proxies = trusted_proxies
        self._max_total_bytes = max_total_bytes
        self._bytes_by_client: Counter[str] = Counter()
        self._total_bytes = 0

    async def read(self, request: web.BaseRequest, max_bytes: int) -> bytes:
        """Return the body, unchanged. Nearly always all of it has been received already.

        Raises:
            RejectedRequest: it is longer than `max_bytes`, or takes too long.
            QueueUnavailable: too many large bodies are being read.
            ConnectionError, aiohttp.ClientPayloadError: the sender disconnected, or sent invalid chunks.
        """
        if (request.content_length or 0) > max_bytes:
            raise RejectedRequest(Refusal.BODY_TOO_LARGE)
        if not request.content.is_eof():
            return await self._read_rest(request, max_bytes)
        body = request.content.read_nowait()
        if len(body) > max_bytes:  # a chunked body declares no length
            raise RejectedRequest(Refusal.BODY_TOO_LARGE)
        return body

    async def _read_rest(self, request: web.BaseRequest, max_bytes: int) -> bytes:
        if request.transport is None:  # lost before reading began; aiohttp would raise RuntimeError
            raise ConnectionResetError
        client = ""
        chunks: list[bytes] = []
        size = counted = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while chunk := await request.content.readany():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > max_bytes:
                        raise RejectedRequest(Refusal.BODY_TOO_LARGE)
                    if size > _UNCOUNTED_BYTES:
                        client = client or self._client(request)
                        self._count(client, len(chunk))
                        counted += len(chunk)
                        self._check_total(client)
        except TimeoutError:
            raise RejectedRequest(Refusal.BODY_TOO_SLOW) from None
        finally:
            if counted:
                self._count(client, -counted)
        return b"".join(chunks)

    def _client(self, request: web.BaseRequest) -> str:
        return client_network(client_address(request.headers, request.remote, self._trusted_proxies))

    def _count(self, client: str, size: int) -> None:
        self._total_bytes += size
        self._bytes_by_client[client] += size
        if not self._bytes_by_client[client]:
            del self._bytes_by_client[client]

    def _check_total(self, client: str) -> None:
        """Refuse what exceeds the total, or the half of it that one client may use."""
        if self._total_bytes > self._max_total_bytes or self._bytes_by_client[client] > self._max_total_bytes // 2:
            raise QueueUnavailable("too_many_bodies", retry_after_s=_RETRY_AFTER_S)
