"""Around every request: its id, its log line, its metrics, and the response to each error.

Responses reveal only a status and the request id; the log line of the same id holds the reason.
"""

import random
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Literal, NamedTuple

import structlog
from aiohttp import web

from ingest.refusal_log import RefusalLog
from ingest.server.responses import accepted, with_standard_headers
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import client_address, client_network
from spokes.core.telemetry.log_limit import LogLimit
from spokes.core.telemetry.metrics import EVENTS, REQUEST_SECONDS, REQUESTS
from spokes.core.telemetry.sentry import record_span
from spokes.core.telemetry.setup import log_canonical_line, report_error
from spokes.intake.classification import Summary

_UNLOGGED_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # requested every few seconds by machines
_MAX_LOGGED_REFUSALS: Final = 600  # a minute; metrics and the audit's aggregate record count those beyond it too
_FIRST_ERROR_STATUS: Final = 400
_RESULTS: Final[tuple[Literal["admitted", "duplicate", "ignored", "quarantined"], ...]] = (
    "admitted",
    "duplicate",
    "ignored",
    "quarantined",
)

SUMMARY: Final = web.RequestKey("summary", Summary)
REQUEST_ID: Final = web.RequestKey("request_id", str)

View = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


class BegunRequest(NamedTuple):
    """The id of a request, and when it began (`time.perf_counter`)."""

    id: str
    at: float


class RequestWrapper:
    """Wraps the requests of one process.

    `in_flight` is the number of requests being answered; while `is_draining`, each response closes its connection.
    """

    def __init__(self, refusal_log: RefusalLog, *, trusted_proxies: int, on_unavailable: Callable[[], None]) -> None:
        """`trusted_proxies` is the number of our own proxies in front of this process.

        `on_unavailable` is called for each delivery that is answered with 503.
        """
        self.in_flight = 0
        self.is_draining = False
        self._refusal_log = refusal_log
        self._trusted_proxies = trusted_proxies
        self._on_unavailable = on_unavailable
        self._durations: dict[tuple[int, str], list[float]] = {}  # seconds, by status and reason
        self._event_counts = dict.fromkeys(_RESULTS, 0)
        self._log_limit = LogLimit(_MAX_LOGGED_REFUSALS)

    def begin(self) -> BegunRequest:
        """Count a request as in flight, until `view`, `delivery`, `end` or `end_unanswered` returns."""
        self.in_flight += 1
        return BegunRequest(f"{random.getrandbits(64):016x}", time.perf_counter())

    async def view(self, request: web.Request, view: View) -> web.StreamResponse:
        """Return the response of `view`, or the one for the error it raises."""
        begun = self.begin()
        request[REQUEST_ID] = begun.id
        reason, response = "", web.StreamResponse()
        try:
            response = await view(request)
        except Exception as error:  # noqa: BLE001 - `_error_response` reports unexpected errors
            response, reason = self._error_response(request, error, begun.id)
        finally:
            self.in_flight -= 1
        if request.path not in _UNLOGGED_PATHS:
            self._finish(begun, response.status, reason, request.get(SUMMARY))
        return with_standard_headers(response, begun.id, close_connection=self.is_draining)

    async def delivery(
        self, request: web.BaseRequest, begun: BegunRequest, receive: Callable[[], Awaitable[Summary]]
    ) -> web.StreamResponse:
        """Return 202 with the summary that `receive` returns, or the response for the error it raises."""
        try:
            summary = await receive()
        except Exception as error:  # noqa: BLE001 - as above
            response, reason = self._error_response(request, error, begun.id)
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._on_unavailable()
            self._finish(begun, response.status, reason, None)
            return with_standard_headers(response, begun.id, close_connection=self.is_draining)
        finally:
            self.in_flight -= 1
        self._finish(begun, 202, "", summary)
        return accepted(request, begun.id, summary, close_connection=self.is_draining)

    def end(self, begun: BegunRequest, summary: Summary) -> None:
        """Measure and log a delivery that is answered with 202."""
        self.in_flight -= 1
        self._finish(begun, 202, "", summary)

    def end_unanswered(self, begun: BegunRequest) -> None:
        """Measure and log a delivery whose sender disconnected before it was stored."""
        self.in_flight -= 1
        self._finish(begun, 400, "sender_gone", None)

    def flush_metrics(self) -> None:
        """Add what was measured to the metrics; doing so per request would cost as much as parsing its events."""
        durations, self._durations = self._durations, {}
        for (status, reason), seconds in durations.items():
            REQUESTS.labels(str(status), reason).inc(len(seconds))
            REQUEST_SECONDS.labels(str(status)).observe_all(seconds)
        for result, count in self._event_counts.items():
            if count:
                EVENTS.labels(result).inc(count)
                self._event_counts[result] = 0

    def _error_response(
        self, request: web.BaseRequest, error: Exception, request_id: str
    ) -> tuple[web.StreamResponse, str]:
        """Return the response for an error, and the reason to log."""
        match error:
            case RejectedRequest():
                agent = request.headers.get("User-Agent", "")
                sender = client_address(request.headers, request.remote, self._trusted_proxies)
                refusal = RejectedRequest(self._refusal_log.record(error.reason, client_network(sender), agent))
                return web.Response(status=refusal.status), refusal.reason.value
            case QueueUnavailable():
                return web.Response(status=503, headers={"Retry-After": str(error.retry_after_s)}), error.reason
            case web.HTTPRequestEntityTooLarge():
                return web.Response(status=413), Refusal.BODY_TOO_LARGE.value
            case web.HTTPException():  # raised by aiohttp: no such path, wrong method
                headers = {name: value for name, value in error.headers.items() if name == "Allow"}
                return web.Response(status=error.status, headers=headers), f"http_{error.status}"
            case ConnectionError():  # the sender disconnected while its body was read
                return web.Response(status=400), "sender_gone"
        report_error(error)
        log.error("request_failed", request_id=request_id, exc_info=error)
        return web.Response(status=503, headers={"Retry-After": "5"}), "internal"

    def _finish(self, begun: BegunRequest, status: int, reason: str, summary: Summary | None) -> None:
        """Measure a request and log it."""
        seconds = time.perf_counter() - begun.at
        self._durations.setdefault((status, reason), []).append(seconds)
        record_span("request", "receive", seconds)
        if summary is not None:
            for result in _RESULTS:
                self._event_counts[result] += summary[result]
        if status >= _FIRST_ERROR_STATUS and self._log_limit.is_exceeded():
            return
        ms = round(seconds * 1000, 1)
        fields = {"request_id": begun.id, "status": status, "reason": reason, "ms": ms, **(summary or {})}
        log_canonical_line("request", fields, is_generated=summary is not None)
