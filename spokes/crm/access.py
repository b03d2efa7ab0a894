"""What one handler may ask of HubSpot, and the journal of what it changed. Rule: refused here means no call was made.

Every write goes through `Access.write`: our own ledger first, then HubSpot, then the journal.

Methods that a handler may be allowed, by any of their names. Rule: closed, so a misspelt one is told at start.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spokes.core.errors import ConfigurationError, CRMError, CRMUnavailable, LeaseLost, NotPermitted
from spokes.crm.batching.registry import BatchQueues
from spokes.crm.object_types import singular
from spokes.crm.records import Record
from spokes.crm.results import WriteReceipt
from spokes.crm.transport.paced_client import ApiRequest, SendCheck, no_check
from spokes.crm.transport.rate_budget import CallKind, Priority

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """One change made in HubSpot, or refused by it; names of properties, never values.

    `method` as `contacts.update`; `object_type` in the singular, as events name it; `reason` empty when it worked.
    `rests_on` is when what it was computed from had been changed last (see `Record.updated_ms`); 0: it was not read.
    """

    method: str
    object_type: str
    object_id: str
    properties: tuple[str, ...]
    correlation_id: str
    ok: bool
    reason: str
    based_on_ms: int = 0


@dataclass(frozen=True, slots=True)
class HandlerAccess:
    """One portal, seen by one handler: the properties it reads by service, the methods it may call, its journal.

    `permit` raises when nothing may be changed any more, `still` does when a change has waited for its place meanwhile;
    `seen` is told of each read, type and properties; `priority` is that of the event it works on. `read_as` is what it
    has read, by type and the id that it asked for.
    """

    queues: BatchQueues
    portal_id: int
    reads: Mapping[str, tuple[str, ...]]
    may: frozenset[str]
    on_write: Callable[[WriteRecord], None] = field(repr=False)
    before_write: Callable[[], None] = field(repr=False, default=lambda: None)
    before_send: SendCheck = field(repr=False, default=no_check)
    priority: Priority = "interactive"
    on_read: Callable[[str, tuple[str, ...]], None] = field(repr=False, default=lambda _type, _properties: None)
    records_read: dict[tuple[str, str], Record] = field(default_factory=dict, repr=False)

    async def send(self, request: ApiRequest, kind: CallKind = "calls") -> "ApiResponse":
        """Make one call that shares no batch, in its place of the budget.

        Raises:
            CRMError: the call failed, or calls are paused for long.
        """
        return await self.queues.client.send(self.portal_id, request, kind, self.priority, before_send=self.before_send)

    def declared_properties(self, service: str) -> tuple[str, ...]:
        """The properties that may be read of a type, by its plural name.

        Raises:
            NotPermitted: none were declared.
        """
        declared = self.reads.get(service)
        if not declared:
            raise NotPermitted(status=0, scopes=(f"{service}.get",))
        return tuple(dict.fromkeys((*declared, "hs_object_id")))

    def check_declared(self, method: str) -> None:
        """Insist that `method` was declared.

        Raises:
            NotPermitted: it was not.
        """
        if method not in self.may:
            raise NotPermitted(status=0, scopes=(method,))

    async def perform(
        self, method: str, object_type: str, object_id: str, properties: Mapping[str, str],
        change: Callable[[], Awaitable[WriteReceipt]], *, read: Record | None = None,
    ) -> WriteReceipt:  # fmt: skip
        """Make a change by calling `change`, with ledger and journal around it.

        Args:
            method: what must have been declared, as `contacts.update`.
            object_type: of the object that changes, by any of its names.
            object_id: empty for what is about to be made; the ledger is then filled as soon as the id is known.
            properties: what is written.
            read: the object as it was read, where what is written was made from that.

        Raises:
            NotPermitted: the method was not declared.
            CRMError: the change failed.
        """
        self.check_declared(method)
        object_type = singular(object_type)
        echo = (self.portal_id, object_type)
        rests_on = {name: read.as_of(name) for name in properties} if read else {}
        read_ms = read.updated_ms if read else 0

        def note(object_id: str, *, ok: bool, reason: str = "", trace: str = "") -> None:
            self.on_write(WriteRecord(method, object_type, object_id, tuple(properties), trace, ok, reason, read_ms))

        if object_id and properties:
            await self.queues.own_writes.record_write(*echo, object_id, properties, based_on_ms=rests_on)
        self.before_write()
        try:
            done = await change()
        except (CRMError, LeaseLost) as error:
            # Without an answer it may have been made all the same, and would then come back as an event. Without the
            # lane, another may have made the very same, and the entry is its own.
            if object_id and properties and not isinstance(error, CRMUnavailable | LeaseLost):
                with suppress(CRMUnavailable):
                    await self.queues.own_writes.remove_write(*echo, object_id, properties)
            trace = error.correlation_id if isinstance(error, CRMError) else ""
            note(object_id, ok=False, reason=error.reason, trace=trace)
            raise
        except asyncio.CancelledError:
            note(object_id, ok=False, reason="cancelled")
            raise
        try:
            if not object_id and properties:
                with suppress(CRMUnavailable):  # it is made; a change that comes back is worked off, changing nothing
                    await self.queues.own_writes.record_write(*echo, done.object_id, properties)
        finally:
            note(done.object_id, ok=True, trace=done.correlation_id)  # last: it ends the time in which nobody is late
        return done


_READ_METHODS: Final = frozenset({"get", "get_by", "get_many", "get_many_by", "search", "search_all", "list"})
_WRITE_METHODS: Final = ("create", "update", "upsert", "archive", "merge")
_OBJECT_METHODS: Final[Mapping[str, str]] = {
    **{name: name for name in _WRITE_METHODS},
    **{f"{name}_many": name for name in _WRITE_METHODS if name != "merge"},
}
_ASSOCIATION_METHODS: Final[Mapping[str, str]] = {
    "list": "list", "list_labelled": "list", "labels": "list",
    "associate": "associate", "remove": "remove", "remove_label": "remove",
}  # fmt: skip
_PRIVACY_METHODS: Final[Mapping[str, str]] = {"delete": "delete", "gdpr_delete": "delete", "export": "export"}
_METHODS_BY_SERVICE: Final = {"associations": _ASSOCIATION_METHODS, "privacy": _PRIVACY_METHODS}


def validate_methods(declared: Iterable[str]) -> frozenset[str]:
    """Return what `declared` stands for: `contacts.update_many` is `contacts.update`; reading objects needs no method.

    Raises:
        ConfigurationError: one of them is no method of its service.
    """
    found: set[str] = set()
    faults: list[str] = []
    for one in declared:
        service, _, name = one.rpartition(".")
        methods = _METHODS_BY_SERVICE.get(service, _OBJECT_METHODS)
        if service and name in methods:
            found.add(f"{service}.{methods[name]}")
        elif not service or methods is not _OBJECT_METHODS or name not in _READ_METHODS:
            there = ", ".join(f"{service or 'contacts'}.{name}" for name in dict.fromkeys(methods.values()))
            faults.append(f"A handler's `may` names {one!r}, which is no method; there are {there}.")
    if faults:
        raise ConfigurationError(faults)
    return frozenset(found)
