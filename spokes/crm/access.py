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
from spokes.crm.batching.registry import Exchange
from spokes.crm.object_types import singular
from spokes.crm.records import Record
from spokes.crm.results import Done
from spokes.crm.transport.paced_client import Request, Still, always
from spokes.crm.transport.rate_budget import Kind, Priority

if TYPE_CHECKING:
    from spokes.crm.transport.client import Answer


@dataclass(frozen=True, slots=True)
class Write:
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
    rests_on: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """One portal, seen by one handler: the properties it reads by service, the methods it may call, its journal.

    `permit` raises when nothing may be changed any more, `still` does when a change has waited for its place meanwhile;
    `seen` is told of each read, type and properties; `priority` is that of the event it works on. `read_as` is what it
    has read, by type and the id that it asked for.
    """

    exchange: Exchange
    portal_id: int
    reads: Mapping[str, tuple[str, ...]]
    may: frozenset[str]
    journal: Callable[[Write], None] = field(repr=False)
    permit: Callable[[], None] = field(repr=False, default=lambda: None)
    still: Still = field(repr=False, default=always)
    priority: Priority = "interactive"
    seen: Callable[[str, tuple[str, ...]], None] = field(repr=False, default=lambda _type, _properties: None)
    read_as: dict[tuple[str, str], Record] = field(default_factory=dict, repr=False)

    async def send(self, request: Request, kind: Kind = "calls") -> "Answer":
        """Make one call that shares no batch, in its place of the budget.

        Raises:
            CRMError: the call failed, or calls are paused for long.
        """
        return await self.exchange.calls.send(self.portal_id, request, kind, self.priority, still=self.still)

    def properties(self, service: str) -> tuple[str, ...]:
        """The properties that may be read of a type, by its plural name.

        Raises:
            NotPermitted: none were declared.
        """
        declared = self.reads.get(service)
        if not declared:
            raise NotPermitted(status=0, scopes=(f"{service}.get",))
        return tuple(dict.fromkeys((*declared, "hs_object_id")))

    def require(self, method: str) -> None:
        """Insist that `method` was declared.

        Raises:
            NotPermitted: it was not.
        """
        if method not in self.may:
            raise NotPermitted(status=0, scopes=(method,))

    async def write(
        self, method: str, object_type: str, object_id: str, properties: Mapping[str, str],
        change: Callable[[], Awaitable[Done]], *, read: Record | None = None,
    ) -> Done:  # fmt: skip
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
        self.require(method)
        object_type = singular(object_type)
        echo = (self.portal_id, object_type)
        rests_on = {name: read.rests_on(name) for name in properties} if read else {}
        read_ms = read.updated_ms if read else 0

        def note(object_id: str, *, ok: bool, reason: str = "", trace: str = "") -> None:
            self.journal(Write(method, object_type, object_id, tuple(properties), trace, ok, reason, read_ms))

        if object_id and properties:
            await self.exchange.echoes.expect(*echo, object_id, properties, rests_on=rests_on)
        self.permit()
        try:
            done = await change()
        except (CRMError, LeaseLost) as error:
            # Without an answer it may have been made all the same, and would then come back as an event. Without the
            # lane, another may have made the very same, and the entry is its own.
            if object_id and properties and not isinstance(error, CRMUnavailable | LeaseLost):
                with suppress(CRMUnavailable):
                    await self.exchange.echoes.forget(*echo, object_id, properties)
            trace = error.correlation_id if isinstance(error, CRMError) else ""
            note(object_id, ok=False, reason=error.reason, trace=trace)
            raise
        except asyncio.CancelledError:
            note(object_id, ok=False, reason="cancelled")
            raise
        try:
            if not object_id and properties:
                with suppress(CRMUnavailable):  # it is made; a change that comes back is worked off, changing nothing
                    await self.exchange.echoes.expect(*echo, done.object_id, properties)
        finally:
            note(done.object_id, ok=True, trace=done.correlation_id)  # last: it ends the time in which nobody is late
        return done


_READING: Final = frozenset({"get", "get_by", "get_many", "get_many_by", "search", "search_all", "list"})
_CHANGING: Final = ("create", "update", "upsert", "archive", "merge")
_OBJECTS: Final[Mapping[str, str]] = {
    **{name: name for name in _CHANGING},
    **{f"{name}_many": name for name in _CHANGING if name != "merge"},
}
_ASSOCIATIONS: Final[Mapping[str, str]] = {
    "list": "list", "list_labelled": "list", "labels": "list",
    "associate": "associate", "remove": "remove", "remove_label": "remove",
}  # fmt: skip
_PRIVACY: Final[Mapping[str, str]] = {"delete": "delete", "gdpr_delete": "delete", "export": "export"}
_SERVICES: Final = {"associations": _ASSOCIATIONS, "privacy": _PRIVACY}


def allowed(declared: Iterable[str]) -> frozenset[str]:
    """Return what `declared` stands for: `contacts.update_many` is `contacts.update`; reading objects needs no method.

    Raises:
        ConfigurationError: one of them is no method of its service.
    """
    found: set[str] = set()
    faults: list[str] = []
    for one in declared:
        service, _, name = one.rpartition(".")
        methods = _SERVICES.get(service, _OBJECTS)
        if service and name in methods:
            found.add(f"{service}.{methods[name]}")
        elif not service or methods is not _OBJECTS or name not in _READING:
            there = ", ".join(f"{service or 'contacts'}.{name}" for name in dict.fromkeys(methods.values()))
            faults.append(f"A handler's `may` names {one!r}, which is no method; there are {there}.")
    if faults:
        raise ConfigurationError(faults)
    return frozenset(found)
