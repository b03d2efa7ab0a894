"""Find out whether REDIS_URL names the wrong transport: TLS to a server without it, or the reverse.

The client's own error does not show it: a server that expects the other transport closes the connection or waits.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from redis.exceptions import AuthenticationError, ResponseError

from spokes.core.redis.errors import first_word
from spokes.core.redis.refusal_sentences import refusal_sentence
from spokes.core.settings import Settings
from spokes.core.settings.redis_url import RedisServer

_PROBE_S: Final = 1.0
_NEEDS_TLS: Final = (
    "the server at REDIS_URL speaks TLS, and REDIS_URL connects without it. Write rediss:// instead of redis://."
)
_HAS_NO_TLS: Final = (
    "the server at REDIS_URL speaks no TLS, and REDIS_URL asks for it. Write redis:// instead of rediss://."
)


async def explain_refusal(error: BaseException, settings: Settings) -> str:
    """Return what is wrong and what to do, as `refusal_sentence`; asks the server once more if it did not answer."""
    if not isinstance(error, ResponseError | AuthenticationError) and (sentence := await _probe(settings)):
        return f"{first_word(error)}: {sentence}"
    return refusal_sentence(error)


async def _probe(settings: Settings) -> str:
    """Return what to write in REDIS_URL if the server answers by the other transport, else an empty text."""
    server = settings.redis_server
    if server.socket:
        return ""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_S):
            if server.tls:
                return _HAS_NO_TLS if await _answers_without_tls(server) else ""
            return _NEEDS_TLS if await _speaks_tls(server) else ""
    return ""


async def _answers_without_tls(server: RedisServer) -> bool:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(b"PING\r\n")
        return await reader.read(1) in {b"+", b"-"}  # PONG, or an error such as NOAUTH
    finally:
        await _close(writer)


async def _speaks_tls(server: RedisServer) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over this connection
    try:
        _, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # a server with TLS that refuses the handshake
    await _close(writer)
    return True


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await writer.wait_closed()
