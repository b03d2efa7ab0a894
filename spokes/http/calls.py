"""`Http` and `HttpResponse`: what `tools.http` offers a handler, and what its calls return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from multidict import CIMultiDict

__all__ = ["Http", "HttpResponse"]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The answer of a host: `status`, `headers` by name in any case, and `body`. Its repr shows no content."""

    status: int
    headers: Mapping[str, str] = field(default_factory=CIMultiDict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body, parsed as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return orjson.loads(self.body)

    def text(self) -> str:
        """Return the body as text, of UTF-8."""
        return self.body.decode(errors="replace")

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} bytes>"


class Http(Protocol):
    """HTTP calls of the hosts that the handler declared: `@uses(calls=("https://erp.example.com",))`.

    A call that may have an effect (POST, PUT, PATCH, DELETE) has a `name`. The header `Idempotency-Key` is derived from
    event, handler and name: it is the same when the event runs again, so that the host can ignore the repetition.
    """

    async def request(
        self,
        method: str,
        url: str,
        *,
        name: str = "",
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | str | Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a request and return the answer, if its status is below 300 or one of `accept`.

        Args:
            method: GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE.
            url: an absolute URL of a declared host.
            name: what the call does, different from other calls of the handler: "order", or f"line-{number}".
            params: added to the query of the URL.
            headers: of the request; they are not sent to another host after a redirect.
            json: the body, sent as JSON.
            data: the body as bytes or text, or the fields of a form.
            accept: statuses that are returned although they mean a failure, such as 404.

        Raises:
            HttpUnavailable: 5xx, no answer, or a broken connection; the event is retried.
            HttpRateLimited: 429; the event is retried after the time that Retry-After names.
            HttpRateReached: the declared rate allows no call now; the event waits.
            HttpRefusal: any other status; the event becomes a dead letter.
            HttpNotSent: the host is not declared, or the call has no name; the event becomes a dead letter.
        """

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a GET; see `request`."""
        return await self.request("GET", url, params=params, headers=headers, accept=accept)

    async def post(
        self,
        url: str,
        *,
        name: str,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | str | Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a POST; see `request`."""
        return await self.request(
            "POST", url, name=name, params=params, headers=headers, json=json, data=data, accept=accept
        )

    async def put(
        self,
        url: str,
        *,
        name: str,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | str | Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a PUT; see `request`."""
        return await self.request(
            "PUT", url, name=name, params=params, headers=headers, json=json, data=data, accept=accept
        )

    async def patch(
        self,
        url: str,
        *,
        name: str,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: bytes | str | Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a PATCH; see `request`."""
        return await self.request(
            "PATCH", url, name=name, params=params, headers=headers, json=json, data=data, accept=accept
        )

    async def delete(
        self,
        url: str,
        *,
        name: str,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> HttpResponse:
        """Send a DELETE; see `request`."""
        return await self.request("DELETE", url, name=name, params=params, headers=headers, accept=accept)

    def idempotency_key(self, name: str) -> str:
        """Return the key of a call, for hosts that expect it in the body or under another name."""
