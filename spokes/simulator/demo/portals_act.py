"""The demo's second act: three portals install the app by OAuth, and one removes it while its events arrive.

Access tokens live for seconds on the simulator's clock, so they are refreshed all the time. What each portal's events
ended with comes from the audit; with whose token each call was made, from the simulator's log.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import orjson

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Subscription
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.demo.installing import install_app
from spokes.simulator.demo.people import phone_as_typed
from spokes.simulator.errors import JsonObject
from spokes.simulator.portal import Portal

INSTALLING: Final = (70100001, 70100002, 70100003)
REMOVING: Final = INSTALLING[-1]  # the portal whose administrator removes the app
_SUBSCRIPTIONS: Final = (Subscription("contact.creation"), Subscription("contact.propertyChange", "phone"))
_CONTACTS: Final = 60  # in each portal
_TIMEOUT_S: Final = 90.0  # far more than it takes
_POLL_S: Final = 0.3
_FINAL: Final = frozenset({"processed", "superseded", "coalesced", "echo", "merged", "dead", "discarded"})

Command = Callable[..., Awaitable[bytes | None]]  # runs a `spokes` command and returns its output


@dataclass(frozen=True, slots=True)
class PortalRow:
    """One portal: its state and events as the deployment has them, its calls as the simulator has them.

    `outcomes` counts events by their outcome, or as `waiting`. `foreign_calls` name objects of another portal.
    """

    portal_id: int
    state: str
    expected_state: str
    events: int
    outcomes: Mapping[str, int]
    expected_outcomes: Mapping[str, int]
    calls: int
    foreign_calls: int
    refreshes: int
    wrong_phones: int

    @property
    def agrees(self) -> bool:
        """Whether state, events, calls and contacts are as they have to be."""
        return not self.difference

    @property
    def difference(self) -> str:
        """What is not as it has to be, empty if all is."""
        if self.state != self.expected_state:
            return f"is not {self.expected_state}"
        if self.outcomes != self.expected_outcomes:
            return ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.expected_outcomes.items()))
        if self.foreign_calls:
            return "calls with the token of another portal"
        return f"{self.wrong_phones} phones are not in E.164" if self.wrong_phones else ""


@dataclass(slots=True)
class PortalsAct:
    """The second act; `base` is where the deployment listens, `command` runs a `spokes` command on it."""

    sim: Simulator
    base: str
    public_url: str
    command: Command
    size: float
    rng: Random
    phones: dict[int, dict[str, str]] = field(default_factory=dict)  # portal -> contact -> its phone in E.164
    waiting: int = 0  # events of the removing portal that arrive after the removal

    async def play(self) -> list[PortalRow]:
        """Install, edit, remove and edit again; return a row for each portal once its events have ended."""
        portals = [self.sim.add_portal(portal_id, _SUBSCRIPTIONS) for portal_id in INSTALLING]
        await asyncio.gather(*(install_app(self.base, self.public_url, portal_id) for portal_id in INSTALLING))
        for portal in portals:
            self.phones[portal.config.portal_id] = {}
            for _ in range(max(1, round(_CONTACTS * self.size))):
                self._new_contact(portal)
        await self._settle()
        self.sim.sender.hold()
        for portal in portals:
            for contact in self._contacts(portal)[::2]:
                self._new_phone(portal, contact)
        self.waiting = len(self._contacts(self.sim.portals[REMOVING])[::2])
        self.sim.installs.uninstall(REMOVING)  # its events are on their way; HubSpot sends no notice
        self.sim.sender.release()
        return await self._settle()

    async def _settle(self) -> list[PortalRow]:
        """Wait until the rows agree, for a while at most; return them."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            await self.sim.sender.wait_until_drained()
            rows = await self._rows()
            if all(row.agrees for row in rows) or time.monotonic() > deadline:
                return rows
            await asyncio.sleep(_POLL_S)

    async def _rows(self) -> list[PortalRow]:
        output = await self.command("portals", "list", "--json")
        states = {row["portal_id"]: row["state"] for row in map(orjson.loads, (output or b"").splitlines())}
        records = [
            orjson.loads(line)
            for line in (await self.command("audit", "export", "--format", "jsonl") or b"").splitlines()
        ]
        return [self._row(portal_id, states.get(portal_id, "unknown"), records) for portal_id in INSTALLING]

    def _row(self, portal_id: int, state: str, records: Sequence[JsonObject]) -> PortalRow:
        events = [event.element for event in self.sim.deliveries.events if event.portal_id == portal_id]
        ended = {
            record["event_id"]: record["outcome"]
            for record in records
            if record["portal_id"] == portal_id and record["action"] == "event" and record["outcome"] in _FINAL
        }
        has_removed = portal_id == REMOVING and self.waiting > 0
        outcomes = Counter(ended.values()) + Counter(waiting=len(events) - len(ended))
        expected = Counter(map(_expected_outcome, events))
        if has_removed:
            expected = expected - Counter(processed=self.waiting) + Counter(waiting=self.waiting)
        calls = [call for call in self.sim.requests if call.portal_id == portal_id and call.path.startswith("/crm/")]
        contacts = self._contacts(self.sim.portals[portal_id])
        known, phones = {contact.id for contact in contacts}, self.phones[portal_id]
        wrong = [contact for contact in contacts if contact.properties.get("phone") != phones[contact.id]]
        return PortalRow(
            portal_id,
            state,
            "needs_reinstall" if has_removed else "installed",
            len(events),
            dict(outcomes),
            dict(expected),
            len(calls),
            sum(not known.issuperset(call.object_ids) for call in calls),
            self.sim.installs.refreshes.get(portal_id, 0),
            len(wrong) - self.waiting if has_removed else len(wrong),
        )

    def _contacts(self, portal: Portal) -> Sequence[CrmRecord]:
        records: Iterable[CrmRecord] = portal.crm.records(portal.crm.types.resolve("contacts"))
        return sorted(records, key=lambda record: int(record.id))

    def _new_contact(self, portal: Portal) -> None:
        typed, phone = phone_as_typed(self.rng, self.rng.randint(2_000_000, 9_999_999))
        contact = portal.crm.create(portal.crm.types.resolve("contacts"), {"phone": typed}, USER)
        self.phones[portal.config.portal_id][contact.id] = phone

    def _new_phone(self, portal: Portal, contact: CrmRecord) -> None:
        typed, phone = phone_as_typed(self.rng, self.rng.randint(2_000_000, 9_999_999))
        portal.crm.update(contact, {"phone": typed}, USER)
        self.phones[portal.config.portal_id][contact.id] = phone


def _expected_outcome(element: object) -> str:
    is_echo = isinstance(element, dict) and element.get("changeSource") == "INTEGRATION" and "propertyName" in element
    return "echo" if is_echo else "processed"
