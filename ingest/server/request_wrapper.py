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

from ingest.refusal_log import RefusalLog
from ingest.server.responses import accepted, with_standard_headers
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import client_address
from spokes.core.telemetry.metrics import EVENTS, REQUEST_SECONDS, REQUESTS
from spokes.core.telemetry.sentry import record_span
from spokes.core.telemetry.setup import log_canonical_line, report_error
from spokes.intake.backpressure import wait_for_stop
from spokes.intake.classification import Summary

_UNLOGGED_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines
_FLUSH_EVERY_S: Final = 1.0
_REFUSED_LINES: Final = 600  # a minute; refusals beyond are in the counts and in the audit's record of them all
_FIRST_ERROR_STATUS: Final = 400
_RESULTS: Final[tuple[Literal["admitted", "duplicate", "ignored", "quarantined"], ...]] = (
    "admitted",
    "duplicate",
    "ignored",
    "quarantined",
)

SUMMARY: Final = web.RequestKey("summary", Summary)

View = Callable[[web.Request], Awaitable[web.StreamResponse]]
Receive = Callable[[web.BaseRequest], Awaitable[Summary]]
log = structlog.get_logger()


class RequestWrapper:
    """What surrounds the requests of one process.

    `in_flight` is how many are being answered; once `ending`, each of them is the last of its connection.
    """

    def __init__(self, refusal_log: RefusalLog, *, trusted_proxies: int) -> None:
        """Count refusals in `refusals`; `proxies` of ours stand in front."""
        self.in_flight = 0
        self.is_draining = False
        self._refusal_log = refusal_log
        self._trusted_proxies = trusted_proxies
        self._durations: dict[tuple[int, str], list[float]] = {}
        self._event_counts = dict.fromkeys(_RESULTS, 0)  # how many events met which
        self._logged_refusals: tuple[int, int] = (0, 0)  # a minute, and how many refusals were told in it

    async def view(self, request: web.Request, view: View) -> web.StreamResponse:
        """Answer with what a view returns, or with what its error becomes."""
        started, request_id = self._begin()
        reason, response = "", web.StreamResponse()
        try:
            response = await view(request)
        except Exception as error:  # noqa: BLE001 - told where it is turned into an answer
            response, reason = self._error_response(request, error, request_id)
        finally:
            self.in_flight -= 1
        if request.path not in _UNLOGGED_PATHS:
            self._finish(started, request_id, response.status, reason, request.get(SUMMARY))
        return with_standard_headers(response, request_id, close_connection=self.is_draining)

    async def delivery(self, request: web.BaseRequest, receive: Receive) -> web.StreamResponse:
        """Answer with 202 and what the receiver returns, or with what its error becomes."""
        started, request_id = self._begin()
        try:
            summary = await receive(request)
        except Exception as error:  # noqa: BLE001 - as above
            response, reason = self._error_response(request, error, request_id)
            self._finish(started, request_id, response.status, reason, None)
            return with_standard_headers(response, request_id, close_connection=self.is_draining)
        finally:
            self.in_flight -= 1
        self._finish(started, request_id, 202, "", summary)
        return accepted(request, request_id, summary, close_connection=self.is_draining)

    async def run(self, stop: asyncio.Event) -> None:
        """Count what was measured, every second until `stop` is set."""
        while not stop.is_set():
            await wait_for_stop(stop, _FLUSH_EVERY_S)
            self.flush_metrics()

    def flush_metrics(self) -> None:
        """Count what was measured; one request at a time would cost as much as reading its events."""
        measured, self._durations = self._durations, {}
        for (status, reason), seconds in measured.items():
            REQUESTS.labels(str(status), reason).inc(len(seconds))
            REQUEST_SECONDS.labels(str(status)).observe_all(seconds)
        for fate, count in self._event_counts.items():
            if count:
                EVENTS.labels(fate).inc(count)
                self._event_counts[fate] = 0

    def _exceeds_log_limit(self) -> bool:
        """Count a refusal that is to be told; return whether there were so many that it fills the log."""
        now = int(time.time()) // 60
        minute, lines = self._logged_refusals
        self._logged_refusals = now, lines + 1 if minute == now else 1
        return self._logged_refusals[1] > _REFUSED_LINES

    def _begin(self) -> tuple[float, str]:
        self.in_flight += 1
        return time.perf_counter(), f"{random.getrandbits(64):016x}"

    def _error_response(
        self, request: web.BaseRequest, error: Exception, request_id: str
    ) -> tuple[web.StreamResponse, str]:
        """Return the answer that an error becomes, and the reason that the log is told."""
        match error:
            case RejectedRequest():
                agent = request.headers.get("User-Agent", "")
                sender = client_address(request.headers, request.remote, self._trusted_proxies)
                refused = RejectedRequest(self._refusal_log.record(error.reason, sender, agent))
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
        report_error(error)
        log.error("request_failed", request_id=request_id, exc_info=error)
        return web.Response(status=503, headers={"Retry-After": "5"}), "internal"

    def _finish(self, started: float, request_id: str, status: int, reason: str, summary: Summary | None) -> None:
        seconds = time.perf_counter() - started
        self._durations.setdefault((status, reason), []).append(seconds)
        record_span("request", "receive", seconds)
        if summary is not None:
            for fate in _RESULTS:
                self._event_counts[fate] += summary[fate]
        if status >= _FIRST_ERROR_STATUS and self._exceeds_log_limit():
            return
        ms = round(seconds * 1000, 1)
        log_canonical_line(
            "request", {"request_id": request_id, "status": status, "reason": reason, "ms": ms, **(summary or {})}
        )
