"""Edits by HubSpot users during a run. Seeded; the expected end state is known from the edits alone."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.demo.people import People
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import Attempt
from spokes.simulator.webhooks.signing import SIGNING_VARIANTS

_TICK_S: Final = 0.05
_IMPORT_SHARE: Final = 0.01  # share of ticks with an import
_IMPORT_SIZE: Final = 150  # contacts
# Without stale timestamps: they can be valid while clocks jump.
_FORGED_VARIANTS: Final = ("forged", "tampered", "unsigned", "wrong_uri")
FIRST_FORGED: Final = 9_000_000_000  # ids of events that HubSpot never sent


@dataclass(slots=True)
class EditLoad:
    """Edits at a rate, with imports, redeliveries and forgeries; `manual_requests` are the forged requests."""

    sim: Simulator
    people: People
    rng: Random
    edits_per_s: float
    manual_requests: list[tuple[Attempt, list[JsonObject]]] = field(default_factory=list)
    edits: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Make edits until `stop` is set."""
        async with asyncio.TaskGroup() as forgers:
            while not stop.is_set():
                if self.rng.random() < _IMPORT_SHARE:
                    self._import()
                for _ in range(round(self.edits_per_s * _TICK_S)):
                    self._edit()
                if self.rng.random() < _TICK_S:  # once a second
                    forgers.create_task(self._forge())
                await asyncio.sleep(_TICK_S)

    def _edit(self) -> None:
        """Make one random edit; one that needs a record does nothing if there is none."""
        edits, weights = zip(*self._choices(), strict=True)
        self.rng.choices(edits, weights)[0]()
        self.edits += 1

    def _choices(self) -> list[tuple[Callable[[], None], int]]:
        people = self.people
        return [
            (people.new_contact, 25),
            (self._new_phone, 25),
            (self._new_city, 12),
            (people.new_company, 10),
            (people.new_deal, 4),
            (self._win, 2),
            (people.new_ticket, 3),
            (self._close, 2),
            (self._redeliver, 4),
            (self._merge, 1),
            (self._erase, 1),
            (people.new_deleted_contact, 1),
        ]

    def _import(self) -> None:
        """Create many contacts, whose events are delivered in as few requests as possible."""
        self.sim.sender.hold()
        for _ in range(_IMPORT_SIZE):
            self.people.new_contact()
        self.sim.sender.release()
        self.edits += _IMPORT_SIZE

    def _new_phone(self) -> None:
        if contact := self._random_contact(self.people.phones):
            self.people.new_phone(contact)

    def _new_city(self) -> None:
        """Change a city to a unique value, so that a note identifies the change that caused it."""
        if contact := self._random_contact(self.people.phones):
            self.sim.crm.update(contact, {"city": f"City {self.edits}"}, USER)

    def _win(self) -> None:
        deals = self.sim.crm.types.resolve("deals")
        candidates = [record for record in self.sim.crm.records(deals) if record.id not in self.people.won_deals]
        if candidates:
            self.people.win(self.rng.choice(candidates))

    def _close(self) -> None:
        candidates = [ticket for ticket in self.people.tickets if ticket not in self.people.closed_tickets]
        if candidates:
            tickets = self.sim.crm.types.resolve("tickets")
            self.people.close(self.sim.crm.get(tickets, self.rng.choice(candidates)))

    def _redeliver(self) -> None:
        """Send a random earlier event again."""
        if events := self.sim.deliveries.events:
            event = self.rng.choice(events)
            self.sim.sender.submit(event.portal_id, [event.element])

    def _merge(self) -> None:
        primary, other = self._random_contact(self.people.phones), self._random_contact(self.people.phones)
        if primary and other and primary is not other:
            self.people.merge(primary, other)

    def _erase(self) -> None:
        if contact := self._random_contact(self.people.phones):
            self.people.erase(contact)

    def _random_contact(self, ids: Mapping[str, str]) -> CrmRecord | None:
        if not ids:
            return None
        return self.sim.crm.find(self.sim.crm.types.resolve("contacts"), self.rng.choice(list(ids)), merged=False)

    async def _forge(self) -> None:
        """Send a request with a forged or missing signature."""
        element = {
            "eventId": FIRST_FORGED + len(self.manual_requests), "subscriptionId": 1, "appId": 1, "attemptNumber": 0,
            "portalId": self.sim.portal.config.portal_id, "objectId": 1, "occurredAt": self.sim.clock.now_ms(),
            "subscriptionType": "contact.creation", "changeSource": "CRM_UI",
        }  # fmt: skip
        attempt = await self.sim.sender.send([element], variant=SIGNING_VARIANTS[self.rng.choice(_FORGED_VARIANTS)])
        self.manual_requests.append((attempt, []))
