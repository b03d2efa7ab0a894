"""Calls within the rate budget: wait for a slot, then call.

A call that was sent is followed to its end even if its caller was cancelled: a thread cannot be stopped, and the slot
must not come back before the call has ended. So each call is a task of its own.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from spokes.core.errors import CRMError, CRMUnavailable, LeaseLost, NotAuthorized
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.telemetry.metrics import CRM_CALL_SECONDS, CRM_CALLS
from spokes.crm.transport.call_kinds import call_kind
from spokes.crm.transport.rate_budget import CallKind, RateBudget

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse, HubSpotClient  # its import loads hubspot-api-client
    from spokes.crm.transport.credentials import Credentials

_TOKEN_CHECK_S: Final = 5.0  # after such a wait for a slot, the token may have expired
_RENEWALS: Final = 2
T = TypeVar("T")
HttpMethod: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

Query: TypeAlias = Mapping[str, str | Sequence[str]]
Body: TypeAlias = Mapping[str, object] | Sequence[object]


class ApiRequest(NamedTuple):
    """One call of HubSpot's API."""

    method: HttpMethod
    path: str
    query: Query | None = None
    body: Body | None = None


class SendContext(Protocol):
    """On whose behalf a call is made."""

    @property
    def priority(self) -> Priority:
        """The priority of the call."""

    @property
    def has_failed_before(self) -> bool:
        """Whether an earlier attempt of the same event failed."""

    def before_send(self) -> None:
        """Allow the call to be sent, once its slot is granted.

        Raises:
            LeaseLost: the caller may no longer make the call.
        """


class CallObserver(Protocol):
    """Takes note of the end of each call; it costs little, because every call waits for it."""

    def call_ended(self, portal_id: int, request: ApiRequest, error: CRMError | None) -> None:
        """Take note of an answer (no error), or of a failure."""


class UncheckedContext(NamedTuple):
    """Allows every call: for reads, and for callers without a lease."""

    priority: Priority
    has_failed_before: bool = False

    def before_send(self) -> None:
        """Allow the call."""


UNCHECKED: Final[Mapping[Priority, SendContext]] = {priority: UncheckedContext(priority) for priority in PRIORITIES}


class PacedClient:
    """Client and rate budget together; all calls of a process go through one of these."""

    def __init__(
        self, credentials: "Credentials", budget: RateBudget, *, account_request: ApiRequest | None = None
    ) -> None:
        """Make each call with its portal's own credentials, within `budget`.

        Args:
            credentials: closed by `close`.
            budget: by portal.
            account_request: asks for the portal's details, which name its time zone. It is sent once for a portal whose
                daily limit is nearly used, to learn when its day ends.
        """
        self._credentials = credentials
        self._budget = budget
        self._account_request = account_request
        self._accounts_requested: set[int] = set()
        self._waiting_calls: set[asyncio.Task[ApiResponse | None]] = set()
        self._calls_in_flight: set[asyncio.Task[ApiResponse | None] | asyncio.Task[None]] = set()
        self._is_stopped = False
        self.observer: CallObserver | None = None
        self._inputs_awaited = 0
        self.on_inputs_sent: Callable[[], None] | None = None

    @property
    def inputs_awaited(self) -> int:
        """The number of inputs in batches that were sent and not answered: so many callers wait for HubSpot alone."""
        return self._inputs_awaited

    def inputs_sent(self, count: int) -> None:
        """Take note that a batch of so many inputs is sent now."""
        self._inputs_awaited += count
        if self.on_inputs_sent is not None:
            self.on_inputs_sent()

    def inputs_answered(self, count: int) -> None:
        """Take note that a batch of so many inputs was answered, or failed."""
        self._inputs_awaited -= count

    async def send(
        self,
        portal_id: int,
        request: ApiRequest,
        kind: CallKind = "calls",
        context: SendContext = UNCHECKED["interactive"],
    ) -> "ApiResponse":
        """Wait for a slot and make a call, unless `context.before_send` raises then.

        Raises:
            CRMError: the call failed, calls are paused for longer than callers wait, or the client is stopped.
            LeaseLost: from `context.before_send`.
        """

        def build_request() -> ApiRequest:
            context.before_send()
            return request

        response = await self.send_when_granted(portal_id, build_request, kind, context.priority)
        if response is None:
            raise CRMUnavailable
        return response

    async def send_when_granted(
        self,
        portal_id: int,
        build_request: Callable[[], ApiRequest | None],
        kind: CallKind = "calls",
        priority: Priority = "interactive",
        queue_id: str = "",
    ) -> "ApiResponse | None":
        """Wait for a slot, then build the request and send it; None if `build_request` returned none.

        Raises:
            CRMError: the call failed, calls are paused for longer than callers wait, or the client is stopped.
            LeaseLost: from `build_request`.
        """
        if self._is_stopped:
            raise CRMUnavailable
        task = asyncio.create_task(self._call(portal_id, build_request, kind, priority, queue_id))
        self._waiting_calls.add(task)
        task.add_done_callback(self._call_ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_stopped:
                raise CRMUnavailable from None  # `stop` cancelled the call; the caller itself is not cancelled
            if task in self._waiting_calls:
                task.cancel()
            raise

    def batch_gap_s(self, portal_id: int, kind: CallKind, priority: Priority) -> float:
        """Return how many seconds after its last batch a queue may send one that is not full."""
        return self._budget.batch_gap_s(portal_id, kind, priority)

    def stop(self) -> None:
        """Refuse new and waiting calls; calls in flight go on."""
        self._is_stopped = True
        for task in self._waiting_calls:
            task.cancel()

    async def close(self) -> None:
        """Stop, wait for the calls in flight, then close the client."""
        self.stop()
        await asyncio.gather(*self._waiting_calls, *self._calls_in_flight, return_exceptions=True)
        await self._credentials.close()

    async def _call(
        self,
        portal_id: int,
        build_request: Callable[[], ApiRequest | None],
        kind: CallKind,
        priority: Priority,
        queue_id: str,
    ) -> "ApiResponse | None":
        client = await self._credentials.client(portal_id)
        obtained = time.monotonic()
        async with self._budget.slot(portal_id, kind, priority, queue_id) as slot:
            try:
                request = build_request()
            except LeaseLost:
                slot.release_unused()
                raise
            if request is None:
                slot.release_unused()
                return None
            task = cast("asyncio.Task[ApiResponse | None]", asyncio.current_task())
            self._waiting_calls.discard(task)
            self._calls_in_flight.add(task)
            if time.monotonic() - obtained > _TOKEN_CHECK_S:
                client = await self._credentials.client(portal_id)
            response = await self._call_renewing(portal_id, client, request)
            slot.read_headers(response.headers)
        if slot.is_day_short:
            self._request_account(portal_id)
        return response

    async def _call_renewing(self, portal_id: int, client: "HubSpotClient", request: ApiRequest) -> "ApiResponse":
        return await call_renewing(
            self._credentials, portal_id, client, lambda current: self._call_client(portal_id, current, request)
        )

    async def _call_client(self, portal_id: int, client: "HubSpotClient", request: ApiRequest) -> "ApiResponse":
        started, outcome, failure = time.perf_counter(), "answered", None
        try:
            return await client.call(request.method, request.path, query=request.query, body=request.body)
        except CRMError as error:
            outcome, failure = error.reason, error
            error.call_kind = call_kind(request.method, request.path)
            raise
        finally:
            if self.observer is not None:
                self.observer.call_ended(portal_id, request, failure)
            CRM_CALLS.labels(request.method, outcome).inc()
            CRM_CALL_SECONDS.labels(request.method).observe(time.perf_counter() - started)

    def _request_account(self, portal_id: int) -> None:
        if self._account_request is None or self._is_stopped or portal_id in self._accounts_requested:
            return
        self._accounts_requested.add(portal_id)
        task = asyncio.create_task(self._load_time_zone(portal_id, self._account_request))
        self._calls_in_flight.add(task)
        task.add_done_callback(self._call_ended)

    async def _load_time_zone(self, portal_id: int, request: ApiRequest) -> None:
        response = await self.send(portal_id, request)
        self._budget.set_time_zone(portal_id, str(response.body.get("timeZone", "")))

    def _call_ended(self, task: "asyncio.Task[ApiResponse | None] | asyncio.Task[None]") -> None:
        self._waiting_calls.discard(task)
        self._calls_in_flight.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, because the caller may have gone


async def call_renewing(
    credentials: "Credentials", portal_id: int, client: "HubSpotClient", call: Callable[["HubSpotClient"], Awaitable[T]]
) -> T:
    """Make a call; after a 401, which has no effect, make it again if the portal has a newer token.

    Twice at most: the first newer token may be one that another process obtained earlier, and HubSpot has ended too.

    Raises:
        CRMError: the call failed, also with the newest token.
    """
    for _ in range(_RENEWALS):
        try:
            return await call(client)
        except NotAuthorized:
            renewed = await credentials.renew(portal_id, client)
            if renewed is None:
                raise
            client = renewed
    return await call(client)
