"""JSON over HTTP from the identity provider: bounded in time and size, no redirects, only HTTPS or loopback."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import aiohttp
import orjson

from spokes.core.errors import HttpProblem
from spokes.core.settings import is_confidential_url

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_MAX_BODY_BYTES: Final = 512 * 1024  # a document of a hundred keys is 60 kB


class ProviderClient:
    """An HTTP session with an identity provider; the caller closes it."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def get_json(self, url: str) -> dict[str, Any]:
        """Return the JSON object at `url`.

        Raises:
            HttpProblem: 503, the request failed or the response is not a JSON object.
        """
        return await self._request("GET", url, None, "")

    async def post_form(self, url: str, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
        """Send a form; return the JSON object of the response, also for OAuth errors (400, 401).

        Raises:
            HttpProblem: 503, the request failed or the response is not a JSON object.
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
            async with self._session.request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                is_refusal = form is not None and response.status in {400, 401}  # by OAuth
                body = await response.content.read(_MAX_BODY_BYTES + 1)
                while len(body) <= _MAX_BODY_BYTES and (more := await response.content.read(_MAX_BODY_BYTES)):
                    body += more
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise provider_unavailable() from None
        if len(body) > _MAX_BODY_BYTES or not (response.status == HTTPStatus.OK or is_refusal):
            raise provider_unavailable()
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise provider_unavailable() from None
        if not isinstance(data, dict):
            raise provider_unavailable()
        return data


def provider_unavailable() -> HttpProblem:
    """Return the problem for an identity provider that does not answer, or whose response is not valid."""
    detail = "The identity provider does not answer correctly. Try again shortly, or log in with a password."
    return HttpProblem(503, "identity_provider_unavailable", detail, retry_after_s=5)
