"""Ask an identity provider for JSON. Rule: in private, bounded in time and size, and never where a redirect leads."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from spokes.core.errors import Problem
from spokes.core.settings import is_private

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_LARGEST: Final = 512 * 1024  # bytes; a document of a hundred keys is 60 kB


class Wire:
    """One session to an identity provider; it stays the caller's to close."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """End the session."""
        await self._session.close()

    async def get(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`.

        Raises:
            Problem: 503, it cannot be had.
        """
        return await self._ask("GET", url, None, "")

    async def post(self, url: str, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
        """Send a form, with `authorization` as its header; return the JSON that answers, whether it grants or refuses.

        Raises:
            Problem: 503, there is none.
        """
        return await self._ask("POST", url, form, authorization)

    async def _ask(self, method: str, url: str, form: Mapping[str, str] | None, authorization: str) -> dict[str, Any]:
        if not is_private(url):
            raise unavailable()
        headers = {"Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        try:
            async with self._session.request(method, url, data=form, headers=headers, allow_redirects=False) as answer:
                refuses = form is not None and answer.status in {400, 401}  # OAuth's way to say no
                body = await answer.content.read(_LARGEST + 1)
                while len(body) <= _LARGEST and (more := await answer.content.read(_LARGEST)):
                    body += more
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise unavailable() from None
        if len(body) > _LARGEST or not (answer.status == HTTPStatus.OK or refuses):
            raise unavailable()
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise unavailable() from None
        if not isinstance(told, dict):
            raise unavailable()
        return told


def unavailable() -> Problem:
    """Return the answer for when the identity provider is not there, or talks nonsense."""
    sentence = "The identity provider does not answer as it should; try again shortly, or log in with a password."
    return Problem(503, "identity_provider_unavailable", sentence, retry_after_s=5)
