"""What surrounds every request: its id, its one log line, its counts, and the answer each refusal becomes.

Rule: an answer to an outsider says nothing but its status and the id under which the log tells more.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import structlog
from aiohttp import web

from ingest.refusal_log import Refusals
from ingest.server.responses import dressed, taken
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import address
from spokes.core.telemetry.metrics import EVENTS, REQUEST_SECONDS, REQUESTS
from spokes.core.telemetry.sentry import timed
from spokes.core.telemetry.setup import canonical, report
from spokes.intake.backpressure import pause
from spokes.intake.classification import Summary

_QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines
_COUNT_EVERY_S: Final = 1.0
_REFUSED_LINES: Final = 600  # a minute; refusals beyond are in the counts and in the audit's record of them all
_REFUSED: Final = 400
_FATES: Final[tuple[Literal["admitted", "duplicate", "ignored", "quarantined"], ...]] = (
    "admitted",
    "duplicate",
    "ignored",
    "quarantined",
)

SUMMARY: Final = web.RequestKey("summary", Summary)

View = Callable[[web.Request], Awaitable[web.StreamResponse]]
Receive = Callable[[web.BaseRequest], Awaitable[Summary]]
log = structlog.get_logger()


class Surroundings:
    """What surrounds the requests of one process.

    `in_flight` is how many are being answered; once `ending`, each of them is the last of its connection.
    """

    def __init__(self, refusals: Refusals, *, proxies: int) -> None:
        """Count refusals in `refusals`; `proxies` of ours stand in front."""
        self.in_flight = 0
        self.ending = False
        self._refusals = refusals
        self._proxies = proxies
        self._seconds: dict[tuple[int, str], list[float]] = {}
        self._fates = dict.fromkeys(_FATES, 0)  # how many events met which
        self._lines: tuple[int, int] = (0, 0)  # a minute, and how many refusals were told in it

    async def of_view(self, request: web.Request, view: View) -> web.StreamResponse:
        """Answer with what a view returns, or with what its error becomes."""
        started, request_id = self._begin()
        reason, response = "", web.StreamResponse()
        try:
            response = await view(request)
        except Exception as error:  # noqa: BLE001 - told where it is turned into an answer
            response, reason = self._refused(request, error, request_id)
        finally:
            self.in_flight -= 1
        if request.path not in _QUIET_PATHS:
            self._told(started, request_id, response.status, reason, request.get(SUMMARY))
        return dressed(response, request_id, last=self.ending)

    async def of_receiver(self, request: web.BaseRequest, receive: Receive) -> web.StreamResponse:
        """Answer with 202 and what the receiver returns, or with what its error becomes."""
        started, request_id = self._begin()
        try:
            summary = await receive(request)
        except Exception as error:  # noqa: BLE001 - as above
            response, reason = self._refused(request, error, request_id)
            self._told(started, request_id, response.status, reason, None)
            return dressed(response, request_id, last=self.ending)
        finally:
            self.in_flight -= 1
        self._told(started, request_id, 202, "", summary)
        return taken(request, request_id, summary, last=self.ending)

    async def run(self, stop: asyncio.Event) -> None:
        """Count what was measured, every second until `stop` is set."""
        while not stop.is_set():
            await pause(stop, _COUNT_EVERY_S)
            self.count()

    def count(self) -> None:
        """Count what was measured; one request at a time would cost as much as reading its events."""
        measured, self._seconds = self._seconds, {}
        for (status, reason), seconds in measured.items():
            REQUESTS.labels(str(status), reason).inc(len(seconds))
            REQUEST_SECONDS.labels(str(status)).observe_all(seconds)
        for fate, count in self._fates.items():
            if count:
                EVENTS.labels(fate).inc(count)
                self._fates[fate] = 0

    def _is_too_much(self) -> bool:
        """Count a refusal that is to be told; return whether there were so many that it fills the log."""
        now = int(time.time()) // 60
        minute, lines = self._lines
        self._lines = now, lines + 1 if minute == now else 1
        return self._lines[1] > _REFUSED_LINES

    def _begin(self) -> tuple[float, str]:
        self.in_flight += 1
        return time.perf_counter(), f"{random.getrandbits(64):016x}"

    def _refused(self, request: web.BaseRequest, error: Exception, request_id: str) -> tuple[web.StreamResponse, str]:
        """Return the answer that an error becomes, and the reason that the log is told."""
        match error:
            case RejectedRequest():
                agent = request.headers.get("User-Agent", "")
                sender = address(request.headers, request.remote, self._proxies)
                refused = RejectedRequest(self._refusals.refused(error.reason, sender, agent))
                return web.Response(status=refused.status), refused.reason.value
            case QueueUnavailable():
                return web.Response(status=503, headers={"Retry-After": str(error.retry_after_s)}), error.reason
            case web.HTTPRequestEntityTooLarge():
                return web.Response(status=413), Refusal.BODY_TOO_LARGE.value
            case web.HTTPException():  # aiohttp's own: no such path, wrong method
                headers = {name: value for name, value in error.headers.items() if name == "Allow"}
                return web.Response(status=error.status, headers=headers), f"http_{error.status}"
            case ConnectionError():  # the sender went away while we read its body
                return web.Response(status=400), "sender_gone"
        report(error)
        log.error("request_failed", request_id=request_id, exc_info=error)
        return web.Response(status=503, headers={"Retry-After": "5"}), "internal"

    def _told(self, started: float, request_id: str, status: int, reason: str, summary: Summary | None) -> None:
        seconds = time.perf_counter() - started
        self._seconds.setdefault((status, reason), []).append(seconds)
        timed("request", "receive", seconds)
        if summary is not None:
            for fate in _FATES:
                self._fates[fate] += summary[fate]
        if status >= _REFUSED and self._is_too_much():
            return
        ms = round(seconds * 1000, 1)
        canonical(
            "request", {"request_id": request_id, "status": status, "reason": reason, "ms": ms, **(summary or {})}
        )
