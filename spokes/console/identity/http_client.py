"""Ask an identity provider for JSON. Rule: in private, bounded in time and size, and never where a redirect leads."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from spokes.core.errors import HttpProblem
from spokes.core.settings import is_confidential_url

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_MAX_BODY_BYTES: Final = 512 * 1024  # bytes; a document of a hundred keys is 60 kB


class ProviderClient:
    """One session to an identity provider; it stays the caller's to close."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """End the session."""
        await self._session.close()

    async def get_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`.

        Raises:
            Problem: 503, it cannot be had.
        """
        return await self._request("GET", url, None, "")

    async def post_form(self, url: str, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
        """Send a form, with `authorization` as its header; return the JSON that answers, whether it grants or refuses.

        Raises:
            Problem: 503, there is none.
        """
        return await self._request("POST", url, form, authorization)

    async def _request(
        self, method: str, url: str, form: Mapping[str, str] | None, authorization: str
    ) -> dict[str, Any]:
        if not is_confidential_url(url):
            raise provider_unavailable()
        headers = {"Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        try:
            async with self._session.request(method, url, data=form, headers=headers, allow_redirects=False) as answer:
                refuses = form is not None and answer.status in {400, 401}  # OAuth's way to say no
                body = await answer.content.read(_MAX_BODY_BYTES + 1)
                while len(body) <= _MAX_BODY_BYTES and (more := await answer.content.read(_MAX_BODY_BYTES)):
                    body += more
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise provider_unavailable() from None
        if len(body) > _MAX_BODY_BYTES or not (answer.status == HTTPStatus.OK or refuses):
            raise provider_unavailable()
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise provider_unavailable() from None
        if not isinstance(told, dict):
            raise provider_unavailable()
        return told


def provider_unavailable() -> HttpProblem:
    """Return the answer for when the identity provider is not there, or talks nonsense."""
    sentence = "The identity provider does not answer as it should; try again shortly, or log in with a password."
    return HttpProblem(503, "identity_provider_unavailable", sentence, retry_after_s=5)
