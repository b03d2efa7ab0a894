"""The rights of one handler, and the path that each of its writes takes.

`HandlerAccess.perform` is the only caller of the own-write ledger and of `HandlerContext.on_write`: ledger first, then
HubSpot, then the record of the write. Services check the declared rights before they call it.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from spokes.core.errors import CRMError, CRMUnavailable, LeaseLost, NotPermitted
from spokes.core.priority import Priority
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.records import Record
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest, SendContext
from spokes.crm.transport.rate_budget import CallKind

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse

_NO_PROPERTIES: Final[Mapping[str, str]] = MappingProxyType({})

Payload_contra = TypeVar("Payload_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """A write that HubSpot made or refused, or that was cancelled; it names properties and holds no values.

    `method` as `contacts.update`; `object_type` in the singular, as events name it; `reason` empty if `ok`.
    `based_on_ms` is `Record.updated_ms` of the record that the values were computed from; 0 if none was read. `failure`
    is what HubSpot said of a refused write.
    """

    method: str
    object_type: str
    object_id: str
    properties: tuple[str, ...]
    correlation_id: str
    ok: bool
    reason: str
    based_on_ms: int = 0
    failure: Mapping[str, object] | None = None


class Write(NamedTuple):
    """A write that is about to be made.

    `object_type` in the singular; `object_id` empty for a new object, whose id only the response names; `properties`
    with their values, empty for writes of other kinds; `read` is the record that the values were computed from.
    """

    method: str
    object_type: str
    object_id: str
    properties: Mapping[str, str] = _NO_PROPERTIES
    read: Record | None = None

    def made(self, receipt: WriteReceipt) -> WriteRecord:
        """Return the record of this write after HubSpot made it."""
        return self._record(receipt.object_id, receipt.correlation_id)

    def failed(self, error: CRMError | LeaseLost) -> WriteRecord:
        """Return the record of this write after it failed."""
        if not isinstance(error, CRMError):
            return self._record(self.object_id, "", failure=error.reason)
        return self._record(self.object_id, error.correlation_id, failure=error.reason, details=error.fields())

    def cancelled(self) -> WriteRecord:
        """Return the record of this write after its handler was cancelled; whether HubSpot made it is unknown."""
        return self._record(self.object_id, "", failure="cancelled")

    def _record(
        self,
        object_id: str,
        correlation_id: str,
        *,
        failure: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> WriteRecord:
        return WriteRecord(
            self.method,
            self.object_type,
            object_id,
            tuple(self.properties),
            correlation_id,
            ok=failure is None,
            reason=failure or "",
            based_on_ms=self.read.updated_ms if self.read else 0,
            failure=details,
        )


class HandlerContext(SendContext, Protocol):
    """The surroundings of one handler call: whether it may still write, and what it read and wrote.

    Implemented by workers/delivery/handler_tools.py.
    """

    def before_write(self) -> None:
        """Allow a write to begin; exactly one `on_write` follows.

        Raises:
            LeaseLost: another worker may be working on the object; no `on_write` follows.
        """

    def on_read(self, object_type: str, properties: tuple[str, ...]) -> None:
        """Take note of a read; `object_type` in the singular."""

    def on_write(self, write: WriteRecord) -> None:
        """Take note of a write that has ended."""


class UnleasedContext:
    """The context of callers without a lease, such as operator actions: nothing is refused, writes are collected."""

    __slots__ = ("priority", "writes")
    has_failed_before = False

    def __init__(self, writes: list[WriteRecord] | None = None, *, priority: Priority = "interactive") -> None:
        self.priority: Priority = priority
        self.writes: list[WriteRecord] = [] if writes is None else writes

    def before_write(self) -> None:
        """Allow every write."""

    def before_send(self) -> None:
        """Allow every call."""

    def on_read(self, object_type: str, properties: tuple[str, ...]) -> None:
        """Ignore reads."""

    def on_write(self, write: WriteRecord) -> None:
        """Collect the record."""
        self.writes.append(write)


class Grants(NamedTuple):
    """What one handler may do in one portal: the properties it reads, by service, and the methods it calls."""

    portal_id: int
    reads: Mapping[str, tuple[str, ...]]
    methods: frozenset[str]


class Writer(Protocol[Payload_contra]):
    """Makes the writes of one kind: a batch queue, or `UnbatchedWriter`."""

    def submit(self, input_id: str, payload: Payload_contra, context: SendContext) -> Awaitable[WriteReceipt]:
        """Make the write once a slot is granted, unless `context.before_send` raises then."""


class HandlerAccess:
    """HubSpot as one handler call may use it; the services of one call share one of these."""

    __slots__ = ("_ledger", "_records_read", "context", "grants", "portal_id", "queues")

    def __init__(self, grants: Grants, context: HandlerContext, queues: BatchQueues, ledger: OwnWriteLedger) -> None:
        self.grants = grants
        self.portal_id = grants.portal_id
        self.context = context
        self.queues = queues
        self._ledger = ledger
        self._records_read: dict[tuple[str, str], Record] = {}

    def declared_properties(self, service: str) -> tuple[str, ...]:
        """Return the properties that may be read of a type, by its plural name, and `hs_object_id`.

        Raises:
            NotPermitted: none were declared.
        """
        declared = self.grants.reads.get(service)
        if not declared:
            raise NotPermitted(status=0, scopes=(f"{service}.get",))
        return _with_object_id(declared)

    def check_declared(self, method: str) -> None:
        """Check that a method was declared, such as `contacts.update`.

        Raises:
            NotPermitted: it was not.
        """
        if method not in self.grants.methods:
            raise NotPermitted(status=0, scopes=(method,))

    def remember_read(self, requested_id: str, record: Record) -> None:
        """Keep a record for the updates that may be computed from it."""
        self._records_read[record.type, requested_id] = record

    def last_read(self, object_type: str, requested_id: str) -> Record | None:
        """Return the record that this handler call last read under this id, None if it read none."""
        return self._records_read.get((object_type, requested_id))

    async def send(self, request: ApiRequest, kind: CallKind = "calls") -> "ApiResponse":
        """Make one call that is not batched.

        Raises:
            CRMError: the call failed, or calls are paused for longer than callers wait.
            LeaseLost: from `context.before_send`.
        """
        return await self.queues.client.send(self.portal_id, request, kind, self.context)

    async def perform(
        self, write: Write, writer: Writer[Payload_contra], input_id: str, payload: Payload_contra
    ) -> WriteReceipt:
        """Make a write, with its ledger entry and its record.

        The ledger entry comes before the call, because HubSpot may send the event before it answers.

        Raises:
            CRMError: HubSpot refused the write, or it could not be made.
            LeaseLost: the handler may not write any more.
        """
        portal_id, object_type, object_id, properties = (
            self.portal_id, write.object_type, write.object_id, write.properties,
        )  # fmt: skip
        if object_id and properties:
            based_on_ms = {name: write.read.as_of(name) for name in properties} if write.read else {}
            await self._ledger.record_write(portal_id, object_type, object_id, properties, based_on_ms=based_on_ms)
        self.context.before_write()
        try:
            receipt = await writer.submit(input_id, payload, self.context)
        except (CRMError, LeaseLost) as error:
            # Without a response, HubSpot may still have made the write, and then sends its event. Without the lease,
            # another worker may have made the same write, and the entry is its own.
            if object_id and properties and not isinstance(error, CRMUnavailable | LeaseLost):
                with suppress(CRMUnavailable):
                    await self._ledger.remove_write(portal_id, object_type, object_id, properties)
            self.context.on_write(write.failed(error))
            raise
        except asyncio.CancelledError:
            self.context.on_write(write.cancelled())
            raise
        try:
            if not object_id and properties:
                with suppress(CRMUnavailable):  # without an entry, the echo runs as an event and changes nothing
                    await self._ledger.record_write(portal_id, object_type, receipt.object_id, properties)
        finally:
            self.context.on_write(write.made(receipt))  # last: it re-arms the handler's time-out
        return receipt


@lru_cache(maxsize=1_000)
def _with_object_id(properties: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*properties, "hs_object_id")))


class UnbatchedWriter:
    """Makes a write by a call of its own; the input's id is the id of the object written."""

    def __init__(self, access: HandlerAccess, kind: CallKind = "calls") -> None:
        self._access = access
        self._kind: CallKind = kind

    async def submit(self, input_id: str, payload: ApiRequest, context: SendContext) -> WriteReceipt:
        """Send the request `payload`."""
        client = self._access.queues.client
        response = await client.send(self._access.portal_id, payload, self._kind, context)
        return self.receipt(input_id, response)

    def receipt(self, input_id: str, response: "ApiResponse") -> WriteReceipt:
        """Return the receipt for a response."""
        return WriteReceipt(input_id, response.correlation_id)
