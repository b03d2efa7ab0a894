"""What surrounds every request: its id, its one log line, and the answer each refusal becomes.

Rule: an answer to an outsider says nothing but its status and the id under which the log tells more.
"""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from core.errors import QueueUnavailable, RejectedRequest
from core.metrics import REQUEST_SECONDS, REQUESTS
from core.refusals import Refusal
from core.sentry import timed
from core.telemetry import canonical, report
from ingest.views import ADDRESS, REFUSALS, SUMMARY

REQUEST_ID: Final = "X-Request-Id"
_QUIET_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds by machines

_ALWAYS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Server": "spokes"}
_COUNTERS: Final[dict[tuple[int, str], tuple[Counter, Histogram]]] = {}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger()


class InFlight:
    """How many requests are being answered; once `ending`, each of them is the last of its connection."""

    def __init__(self) -> None:
        self.count = 0
        self.ending = False


IN_FLIGHT: Final = web.AppKey("in_flight", InFlight)


@web.middleware
async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what goes wrong into an answer, count it, and write the request's one line."""
    started = time.perf_counter()
    in_flight = request.app[IN_FLIGHT]
    in_flight.count += 1
    request_id = f"{random.getrandbits(64):016x}"
    reason = ""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except RejectedRequest as refused:
        address, agent = request.get(ADDRESS, ""), request.headers.get("User-Agent", "")
        refused = RejectedRequest(request.app[REFUSALS].refused(refused.reason, address, agent))
        reason = refused.reason.value
        response = web.Response(status=refused.status)
    except QueueUnavailable as unavailable:
        reason = unavailable.reason
        response = web.Response(status=503, headers={"Retry-After": str(unavailable.retry_after_s)})
    except web.HTTPRequestEntityTooLarge:
        reason = Refusal.BODY_TOO_LARGE.value
        response = web.Response(status=413)
    except web.HTTPException as error:  # aiohttp's own: no such path, wrong method
        reason = f"http_{error.status}"
        response = web.Response(status=error.status, headers={k: v for k, v in error.headers.items() if k == "Allow"})
    except ConnectionError:  # the sender went away while we read its body
        reason = "sender_gone"
        response = web.Response(status=400)
    except Exception as error:
        report(error)
        log.exception("request_failed", request_id=request_id)
        reason = "internal"
        response = web.Response(status=503, headers={"Retry-After": "5"})
    finally:
        in_flight.count -= 1
    if in_flight.ending:
        response.force_close()
    response.headers.update(_ALWAYS)
    response.headers[REQUEST_ID] = request_id
    if request.path not in _QUIET_PATHS:
        seconds = time.perf_counter() - started
        _told(response.status, reason, seconds)
        timed("request", "receive", seconds)
        told = {"request_id": request_id, "status": response.status, "reason": reason, "ms": round(seconds * 1000, 1)}
        canonical("request", told | request.get(SUMMARY, {}))
    return response


def _told(status: int, reason: str, seconds: float) -> None:
    """Count an answer; looking a counter up by its labels costs more than counting."""
    counters = _COUNTERS.get((status, reason))
    if counters is None:
        counters = REQUESTS.labels(str(status), reason), REQUEST_SECONDS.labels(str(status))
        _COUNTERS[status, reason] = counters
    counters[0].inc()
    counters[1].observe(seconds)
