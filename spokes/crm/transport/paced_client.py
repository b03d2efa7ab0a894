"""A call in its place of the budget. Rule: a call that has left is followed to its end, even if nobody waits for it.

Its place must not come back before it has ended, and a thread cannot be stopped: so the call is a task of its own.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

from spokes.core.errors import CRMError, CRMUnavailable, LeaseLost
from spokes.core.telemetry.metrics import CRM_CALL_SECONDS, CRM_CALLS
from spokes.crm.transport.rate_budget import CallKind, Priority, RateBudget

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse, HubSpotClient  # its import loads hubspot-api-client

HttpMethod: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

Query: TypeAlias = Mapping[str, str | Sequence[str]]
Body: TypeAlias = Mapping[str, object] | Sequence[object]
SendCheck: TypeAlias = Callable[[], None]  # asked when a place is there; raises LeaseLost if the call must not leave


def no_check() -> None:
    """Let every call leave: `Still` of whoever cannot lose the right to call."""


class ApiRequest(NamedTuple):
    """One call: what is asked of which path."""

    method: HttpMethod
    path: str
    query: Query | None = None
    body: Body | None = None


class PacedClient:
    """Client and budget together; all of a process' calls go through one of these."""

    def __init__(
        self, client: "HubSpotClient", budget: RateBudget, *, account_request: ApiRequest | None = None
    ) -> None:
        """Make calls with these.

        Args:
            account: asks for the portal's details; made once for a portal whose daily limit runs short, to learn when
                its day ends.
        """
        self._client = client
        self._budget = budget
        self._account_request = account_request
        self._accounts_requested: set[int] = set()
        self._waiting_calls: set[asyncio.Task[ApiResponse | None]] = set()
        self._calls_in_flight: set[asyncio.Task[ApiResponse | None] | asyncio.Task[None]] = set()
        self._is_stopped = False

    async def send(
        self,
        portal_id: int,
        request: ApiRequest,
        kind: CallKind = "calls",
        priority: Priority = "interactive",
        *,
        before_send: SendCheck = no_check,
    ) -> "ApiResponse":
        """Wait for a place and make the call, unless `still` raises then: a long wait may have changed who may make it.

        Raises:
            CRMError: the call failed, calls are paused for long, or no more are made.
        """

        def compose() -> ApiRequest:
            before_send()
            return request

        answer = await self.send_when_granted(portal_id, compose, kind, priority)
        if answer is None:
            raise CRMUnavailable
        return answer

    async def send_when_granted(
        self,
        portal_id: int,
        build_request: Callable[[], ApiRequest | None],
        kind: CallKind = "calls",
        priority: Priority = "interactive",
    ) -> "ApiResponse | None":
        """Wait for a place, only then ask `compose` what to call; None when it has nothing left to ask."""
        if self._is_stopped:
            raise CRMUnavailable
        task = asyncio.create_task(self._call(portal_id, build_request, kind, priority))
        self._waiting_calls.add(task)
        task.add_done_callback(self._call_ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_stopped:
                raise CRMUnavailable from None  # it is not the caller who was cancelled
            if task in self._waiting_calls:
                task.cancel()
            raise

    def stop(self) -> None:
        """Make no more calls: who waits for a place is refused, what is under way goes on."""
        self._is_stopped = True
        for task in self._waiting_calls:
            task.cancel()

    async def close(self) -> None:
        """Stop, wait for the calls under way, then close the client."""
        self.stop()
        await asyncio.gather(*self._waiting_calls, *self._calls_in_flight, return_exceptions=True)
        await self._client.close()

    async def _call(
        self, portal_id: int, build_request: Callable[[], ApiRequest | None], kind: CallKind, priority: Priority
    ) -> "ApiResponse | None":
        async with self._budget.slot(portal_id, kind, priority) as place:
            try:
                request = build_request()
            except LeaseLost:
                place.release_unused()
                raise
            if request is None:
                place.release_unused()
                return None
            task = cast("asyncio.Task[ApiResponse | None]", asyncio.current_task())
            self._waiting_calls.discard(task)
            self._calls_in_flight.add(task)
            answer = await self._call_client(request)
            place.read_headers(answer.headers)
        if place.is_day_short:
            self._request_account(portal_id)
        return answer

    async def _call_client(self, request: ApiRequest) -> "ApiResponse":
        started, outcome = time.perf_counter(), "answered"
        try:
            return await self._client.call(request.method, request.path, query=request.query, body=request.body)
        except CRMError as error:
            outcome = error.reason
            raise
        finally:
            CRM_CALLS.labels(request.method, outcome).inc()
            CRM_CALL_SECONDS.labels(request.method).observe(time.perf_counter() - started)

    def _request_account(self, portal_id: int) -> None:
        if self._account_request is None or self._is_stopped or portal_id in self._accounts_requested:
            return
        self._accounts_requested.add(portal_id)
        task = asyncio.create_task(self._load_time_zone(portal_id, self._account_request))
        self._calls_in_flight.add(task)
        task.add_done_callback(self._call_ended)

    async def _load_time_zone(self, portal_id: int, account: ApiRequest) -> None:
        answer = await self.send(portal_id, account)
        self._budget.set_time_zone(portal_id, str(answer.body.get("timeZone", "")))

    def _call_ended(self, task: "asyncio.Task[ApiResponse | None] | asyncio.Task[None]") -> None:
        self._waiting_calls.discard(task)
        self._calls_in_flight.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to take note of it
