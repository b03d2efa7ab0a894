"""`spokes.http`: answers for the calls that handlers make with `tools.http`, and a record of these calls."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from multidict import CIMultiDict
from yarl import URL

from spokes.http.calls import HttpResponse
from spokes.http.errors import HttpUnavailable
from workers.http.requests import IDEMPOTENCY_HEADER, HttpRequest


class NoResponse(Exception):
    """A handler called a host for which the test has set no response."""


class HttpCall(NamedTuple):
    """One request that a handler sent with `tools.http`, and the status of its response (0: connection broken)."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def idempotency_key(self) -> str:
        """The request's Idempotency-Key, empty for a read."""
        return self.headers.get(IDEMPOTENCY_HEADER, "")

    def json(self) -> Any:
        """Return the body, parsed as JSON."""
        return orjson.loads(self.body)


@dataclass(slots=True)
class _Answer:
    url: str
    method: str
    response: HttpResponse
    left: int | None

    def matches(self, request: HttpRequest) -> bool:
        is_of_url = fnmatch.fnmatchcase(str(request.url.with_query(None)), self.url)
        return is_of_url and self.method in {"", request.method} and self.left != 0


class FakeHosts:
    """The hosts that handlers call, as a test scripts them. `calls` has every request of the test."""

    def __init__(self) -> None:
        self.calls: list[HttpCall] = []
        self._answers: list[_Answer] = []

    def respond(
        self,
        url: str,
        *,
        status: int = 200,
        json: object = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        method: str = "",
        times: int | None = None,
    ) -> None:
        """Set the response to calls of a host.

        Responses with `times` are used up first, in their order, then the newest one without. A host with nothing left
        answers with an empty 200. A call of a host that no response names raises NoResponse in the handler.

        Args:
            url: a host such as "https://erp.example.com", or a shell pattern of whole URLs: "https://erp.example.com/o*".
            status: of the response; 0 breaks the connection.
            json: the body, sent as JSON.
            body: the body, if `json` is None.
            headers: of the response, such as {"Retry-After": "60"}.
            method: only calls with this method; empty for all.
            times: how often; None for every further call.
        """
        host = URL(url)
        pattern = url if host.path not in {"", "/"} or "*" in url else f"{host.origin()}/*"
        content = body if json is None else orjson.dumps(json)
        response = HttpResponse(status, CIMultiDict(headers or {}), content)
        self._answers.append(_Answer(pattern, method.upper(), response, times))

    async def send(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        """Answer a request as the test has scripted it, in place of the network.

        Raises:
            HttpUnavailable: the connection is broken.
            NoResponse: the test has set no response for the host.
        """
        del timeout_s
        response = self._take(request)
        call = HttpCall(request.method, str(request.url), dict(request.headers), request.body, response.status)
        self.calls.append(call)
        if not response.status:
            raise HttpUnavailable(request.host, request.method, code="connection")
        return response

    def snapshot(self) -> list[int | None]:
        """Return how often each response is still used."""
        return [answer.left for answer in self._answers]

    def restore(self, snapshot: list[int | None]) -> None:
        """Return to a snapshot, and forget the calls."""
        self.calls = []
        for answer, left in zip(self._answers, snapshot, strict=True):
            answer.left = left

    def reset(self) -> None:
        """Forget calls and responses."""
        self.calls, self._answers = [], []

    def effects(self) -> dict[str, str]:
        """Return what the calls asked for, by idempotency key: a host carries out each key once."""
        return {
            call.idempotency_key: f"{call.method} {call.url} {call.body.decode(errors='replace')}"
            for call in self.calls
            if call.idempotency_key and call.status
        }

    def _take(self, request: HttpRequest) -> HttpResponse:
        matching = [answer for answer in self._answers if answer.matches(request)]
        counted = [answer for answer in matching if answer.left is not None]
        if counted:
            counted[0].left = (counted[0].left or 0) - 1
            return counted[0].response
        if matching:
            return matching[-1].response
        if any(answer.url.startswith(request.host) for answer in self._answers):
            return HttpResponse(200)
        raise NoResponse(f"no response is set for {request.host}: write spokes.http.respond({request.host!r}).")


def effect_differences(expected: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Return in what the calls with an effect differ between two runs; each difference is a piece of a sentence."""
    missing = [f"{text} is missing" for key, text in expected.items() if key not in actual]
    added = [f"{text} is sent once more, with another key" for key, text in actual.items() if key not in expected]
    changed = [
        f"{actual[key]} is sent in place of {text}"
        for key, text in expected.items()
        if key in actual and actual[key] != text
    ]
    return [*missing, *added, *changed]
