"""The journal over HTTP: its token, its reads, and its files, which take no token.

Reads count against a limit of the app, 100 a second, and against no limit of a portal.
Source: HubSpot's docs, "Webhooks journal".
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from random import Random
from typing import Final

from aiohttp import web

from spokes.simulator.api.json_endpoint import Endpoint, json_object, json_response
from spokes.simulator.api.request_log import LoggedCall
from spokes.simulator.clock import Clock
from spokes.simulator.config import JournalConfig
from spokes.simulator.crm.records import iso
from spokes.simulator.errors import HubSpotError, JsonObject, invalid_request, missing_scopes, not_authenticated
from spokes.simulator.journal.store import JournalPage, JournalStore
from spokes.simulator.rate_limits import RollingWindow

VERSIONS: Final = ("2026-03", "2026-09", "2027-03-beta")
READ_SCOPE: Final = "developer.webhooks_journal.read"
FILES: Final = "/journal-files"
_VIEWS: Final = ("journal", "journal-local")
_OVER_LIMIT: Final = {"status": "error", "message": "You have reached your secondly limit.", "category": "RATE_LIMITS"}


class JournalServer:
    """The journal's endpoints and tokens."""

    def __init__(self, config: JournalConfig, clock: Clock, rng: Random, url: Callable[[], str]) -> None:
        """`url` returns the address of the simulator, where the files are."""
        self.store = JournalStore(config, clock, rng)
        self.file_reads = 0
        self._clock = clock
        self._rng = rng
        self._url = url
        self._tokens: dict[str, tuple[frozenset[str], float]] = {}
        self._window = RollingWindow(1.0)

    def issue_token(self, scopes: frozenset[str]) -> JsonObject:
        """Return the body of the answer to a request for a token by client credentials; it has no refresh token."""
        life_s = self.store.config.token_s / self._clock.speed
        token = f"cc-{self._rng.getrandbits(256):064x}"
        self._tokens[token] = (scopes, self._clock.monotonic_s() + life_s)
        return {
            "access_token": token,
            "expires_in": max(1, int(life_s)),
            "token_type": "bearer",
            "token_use": "client_credentials",
        }

    def expire_tokens(self) -> int:
        """End the life of every token; return how many there were."""
        count = len(self._tokens)
        self._tokens = {token: (scopes, 0.0) for token, (scopes, _) in self._tokens.items()}
        return count

    def routes(self) -> Mapping[tuple[str, str], Endpoint]:
        """Return the functions by method and path."""
        reads: Mapping[tuple[str, str], Endpoint] = {
            ("GET", "/earliest"): self._earliest,
            ("GET", "/latest"): self._latest,
            ("GET", "/offset/{offset}/next"): self._next,
            ("GET", "/batch/earliest/{count}"): self._batch_earliest,
            ("GET", "/batch/latest/{count}"): self._batch_latest,
            ("GET", "/batch/{offset}/next/{count}"): self._batch_next,
            ("POST", "/batch/read"): self._batch_read,
        }
        routes = {
            (method, f"/webhooks-journal/{view}/{version}{path}"): self._checked(function)
            for view in _VIEWS
            for version in VERSIONS
            for (method, path), function in reads.items()
        }
        return {**routes, ("GET", FILES + "/{name}"): self._file}

    def _checked(self, function: Endpoint) -> Endpoint:
        """Return a function that checks token, scope and limit before it calls another one."""

        async def serve(request: web.Request, log: LoggedCall) -> web.Response:
            if READ_SCOPE not in self.scopes_of(request):
                raise missing_scopes([READ_SCOPE])
            now_s = self._clock.monotonic_s()
            if self._window.count(now_s) >= self.store.config.reads_secondly:
                return json_response(_OVER_LIMIT, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "1"})
            self._window.add(now_s)
            return await function(request, log)

        return serve

    def scopes_of(self, request: web.Request) -> frozenset[str]:
        """Return the scopes of the token in a request.

        Raises:
            HubSpotError: 401.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        scopes, expires_s = self._tokens.get(token, (frozenset(), None))
        if scheme.lower() != "bearer" or expires_s is None:
            raise not_authenticated()
        if self._clock.monotonic_s() >= expires_s:
            raise not_authenticated(expired=True)
        return scopes

    @property
    def peak_reads(self) -> int:
        """The most reads that were allowed within one second."""
        return self._window.peak

    async def _earliest(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._one(self.store.pages(_portal(request))[:1], request)

    async def _latest(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._one(self.store.pages(_portal(request))[-1:], request)

    async def _next(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._one(self._after(request)[:1], request)

    async def _batch_earliest(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._batch(self.store.pages(_portal(request))[: self._count(request)], request)

    async def _batch_latest(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._batch(self.store.pages(_portal(request))[-self._count(request) :], request)

    async def _batch_next(self, request: web.Request, _log: LoggedCall) -> web.Response:
        return self._batch(self._after(request)[: self._count(request)], request)

    async def _batch_read(self, request: web.Request, _log: LoggedCall) -> web.Response:
        inputs = (await json_object(request)).get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(each, str) for each in inputs):
            raise invalid_request("Some required fields were not set: [inputs]")
        pages = {each: self.store.find(each) for each in inputs}
        missing = [each for each, page in pages.items() if page is None]
        errors = [_unknown_offset(each).entry() for each in missing]
        return self._batch([page for page in pages.values() if page is not None], request, errors)

    async def _file(self, request: web.Request, _log: LoggedCall) -> web.Response:
        if "Authorization" in request.headers:  # the store of the files refuses two credentials
            raise HubSpotError(HTTPStatus.BAD_REQUEST, "InvalidArgument", "Only one auth mechanism allowed")
        content = self.store.file(request.match_info["name"])
        if content is None:
            raise HubSpotError(HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired")
        self.file_reads += 1
        return web.Response(body=content, content_type="application/json")

    def _after(self, request: web.Request) -> list[JournalPage]:
        """Return the pages behind the offset in the path.

        Raises:
            HubSpotError: the offset is unknown, or too old.
        """
        page = self.store.find(request.match_info["offset"])
        if page is None:
            raise _unknown_offset(request.match_info["offset"], self.store.config.unknown_offset_status)
        return [each for each in self.store.pages(_portal(request)) if each.number > page.number]

    def _count(self, request: web.Request) -> int:
        text = request.match_info["count"]
        count = int(text) if text.isascii() and text.isdecimal() else 0
        if not 1 <= count <= self.store.config.max_count:
            raise invalid_request(f"count must be between 1 and {self.store.config.max_count}")
        return count

    def _one(self, pages: list[JournalPage], request: web.Request) -> web.Response:
        return json_response(self._location(pages[0], request)) if pages else web.Response(status=HTTPStatus.NO_CONTENT)

    def _batch(self, pages: list[JournalPage], request: web.Request, errors: Sequence[JsonObject] = ()) -> web.Response:
        if not pages and not errors:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        at = iso(self._clock.now_ms())
        results = [self._location(page, request) for page in pages]
        body: JsonObject = {"status": "COMPLETE", "results": results, "startedAt": at, "completedAt": at}
        if errors:
            return json_response({**body, "numErrors": len(errors), "errors": [*errors]}, HTTPStatus.MULTI_STATUS)
        return json_response(body)

    def _location(self, page: JournalPage, request: web.Request) -> JsonObject:
        name, life_s = self.store.address(page, _portal(request))
        expires_at = iso(self._clock.now_ms() + round(life_s * 1000))
        return {"currentOffset": page.offset, "expiresAt": expires_at, "url": f"{self._url()}{FILES}/{name}"}


def _portal(request: web.Request) -> int | None:
    """Return the portal whose entries the caller wants; None for all.

    Raises:
        HubSpotError: 400.
    """
    text = request.query.get("installPortalId")
    if text is not None and not (text.isascii() and text.isdecimal()):
        raise invalid_request("installPortalId must be a number")
    return None if text is None else int(text)


def _unknown_offset(offset: str, status: int = HTTPStatus.NOT_FOUND) -> HubSpotError:
    return HubSpotError(status, "OBJECT_NOT_FOUND", f"No journal entry with the offset {offset}")
