"""A call in its place of the budget. Rule: a call that has left is followed to its end, even if nobody waits for it.

Its place must not come back before it has ended, and a thread cannot be stopped: so the call is a task of its own.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

from spokes.core.errors import CRMError, CRMUnavailable, LeaseLost
from spokes.core.telemetry.metrics import CRM_CALL_SECONDS, CRM_CALLS
from spokes.crm.transport.rate_budget import Budget, Kind, Priority

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer, HubSpotClient  # its import loads hubspot-api-client

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

Query: TypeAlias = Mapping[str, str | Sequence[str]]
Body: TypeAlias = Mapping[str, object] | Sequence[object]
Still: TypeAlias = Callable[[], None]  # asked when a place is there; raises LeaseLost if the call must not leave


def always() -> None:
    """Let every call leave: `Still` of whoever cannot lose the right to call."""


class Request(NamedTuple):
    """One call: what is asked of which path."""

    method: Method
    path: str
    query: Query | None = None
    body: Body | None = None


class Calls:
    """Client and budget together; all of a process' calls go through one of these."""

    def __init__(self, client: "HubSpotClient", budget: Budget, *, account: Request | None = None) -> None:
        """Make calls with these.

        Args:
            account: asks for the portal's details; made once for a portal whose daily limit runs short, to learn when
                its day ends.
        """
        self._client = client
        self._budget = budget
        self._account = account
        self._accounts_asked: set[int] = set()
        self._waiting: set[asyncio.Task[Answer | None]] = set()
        self._under_way: set[asyncio.Task[Answer | None] | asyncio.Task[None]] = set()
        self._stopped = False

    async def send(
        self,
        portal_id: int,
        request: Request,
        kind: Kind = "calls",
        priority: Priority = "interactive",
        *,
        still: Still = always,
    ) -> "Answer":
        """Wait for a place and make the call, unless `still` raises then: a long wait may have changed who may make it.

        Raises:
            CRMError: the call failed, calls are paused for long, or no more are made.
        """

        def compose() -> Request:
            still()
            return request

        answer = await self.send_late(portal_id, compose, kind, priority)
        if answer is None:
            raise CRMUnavailable
        return answer

    async def send_late(
        self,
        portal_id: int,
        compose: Callable[[], Request | None],
        kind: Kind = "calls",
        priority: Priority = "interactive",
    ) -> "Answer | None":
        """Wait for a place, only then ask `compose` what to call; None when it has nothing left to ask."""
        if self._stopped:
            raise CRMUnavailable
        task = asyncio.create_task(self._call(portal_id, compose, kind, priority))
        self._waiting.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._stopped:
                raise CRMUnavailable from None  # it is not the caller who was cancelled
            if task in self._waiting:
                task.cancel()
            raise

    def stop(self) -> None:
        """Make no more calls: who waits for a place is refused, what is under way goes on."""
        self._stopped = True
        for task in self._waiting:
            task.cancel()

    async def close(self) -> None:
        """Stop, wait for the calls under way, then close the client."""
        self.stop()
        await asyncio.gather(*self._waiting, *self._under_way, return_exceptions=True)
        await self._client.close()

    async def _call(
        self, portal_id: int, compose: Callable[[], Request | None], kind: Kind, priority: Priority
    ) -> "Answer | None":
        async with self._budget.place(portal_id, kind, priority) as place:
            try:
                request = compose()
            except LeaseLost:
                place.unused()
                raise
            if request is None:
                place.unused()
                return None
            task = cast("asyncio.Task[Answer | None]", asyncio.current_task())
            self._waiting.discard(task)
            self._under_way.add(task)
            answer = await self._ask(request)
            place.answered(answer.headers)
        if place.is_day_short:
            self._ask_account(portal_id)
        return answer

    async def _ask(self, request: Request) -> "Answer":
        started, outcome = time.perf_counter(), "answered"
        try:
            return await self._client.call(request.method, request.path, query=request.query, body=request.body)
        except CRMError as error:
            outcome = error.reason
            raise
        finally:
            CRM_CALLS.labels(request.method, outcome).inc()
            CRM_CALL_SECONDS.labels(request.method).observe(time.perf_counter() - started)

    def _ask_account(self, portal_id: int) -> None:
        if self._account is None or self._stopped or portal_id in self._accounts_asked:
            return
        self._accounts_asked.add(portal_id)
        task = asyncio.create_task(self._learn_day(portal_id, self._account))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    async def _learn_day(self, portal_id: int, account: Request) -> None:
        answer = await self.send(portal_id, account)
        self._budget.learn_day(portal_id, str(answer.body.get("timeZone", "")))

    def _ended(self, task: "asyncio.Task[Answer | None] | asyncio.Task[None]") -> None:
        self._waiting.discard(task)
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to take note of it
