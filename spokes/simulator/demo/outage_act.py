"""The act in which nothing of Spokes runs for 30 hours of HubSpot's time, and its journal brings in what pushes missed.

HubSpot gives up a push after ten retries within 24 hours. The journal keeps three days.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Final, TypeAlias

from spokes.simulator.app import Simulator
from spokes.simulator.crm.object_types import COMPANY, CONTACT, DEAL
from spokes.simulator.demo.comparison import ComparisonRow, wrong_values
from spokes.simulator.demo.people import People
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import DeliveryState

EventKey: TypeAlias = tuple[str, str, str, int]  # object type, kind, object id, time in epoch ms

_HOURS: Final = 30
_OUTAGE_S: Final = 10.0  # what the 30 hours take
_PAGE_S: Final = 1800.0  # of HubSpot's time, which a page of the journal covers
_STEPS: Final = 60
_TIMEOUT_S: Final = 90.0  # far more than it takes
_POLL_S: Final = 0.5
_FAMILIES: Final = {CONTACT: "contact", COMPANY: "company", DEAL: "deal"}
_KINDS: Final = {"CREATE": "creation", "UPDATE": "propertyChange"}
_HANDLED: Final = {CONTACT: "phone", COMPANY: "domain", DEAL: "dealstage"}  # the property that handlers register for
_TERMINAL: Final = frozenset({"processed", "superseded", "coalesced", "echo", "merged", "dead", "discarded"})


@dataclass(slots=True)
class OutageResult:
    """The comparison, and a sentence about the ways by which the events came."""

    rows: list[ComparisonRow]
    sentence: str


class OutageAct:
    """Changes that users make while nothing runs, and what the audit says about them afterwards."""

    def __init__(self, sim: Simulator, rng: Random, size: float) -> None:
        self._sim = sim
        self._people = People(sim, rng)
        self._rng = rng
        self._per_step = max(1, round(6 * size))
        self._first_serial = 0
        self._expected: set[EventKey] = set()

    def settings(self, env: dict[str, str]) -> dict[str, str]:
        """Return the settings of a deployment that reads the journal."""
        app = {
            "HUBSPOT_CLIENT_ID": self._sim.installs.config.client_id,
            "SECRETS_KEY": f"{self._rng.getrandbits(256):064x}",
            "CONSOLE_KEY": f"{self._rng.getrandbits(256):064x}",
        }
        return {**app, **env, "JOURNAL": "1", "DEDUPE_HOURS": "96"}

    async def pass_hours(self) -> None:
        """Let 30 hours pass in which users go on working."""
        sim, store = self._sim, self._sim.journal.store
        sim.faults.clear()
        store.clear()
        store.config = replace(store.config, linger_s=_PAGE_S)
        self._first_serial = len(sim.deliveries.events)
        speed, sim.clock.speed = sim.clock.speed, _HOURS * 3600 / _OUTAGE_S
        for _ in range(_STEPS):
            for _ in range(self._per_step):
                self._edit()
            await asyncio.sleep(_OUTAGE_S / _STEPS)
        store.publish()
        sim.clock.speed = speed
        self._expected = {key for page in store.pages() for entry in page.entries for key in _keys(entry)}

    async def result(self, export_audit: Callable[[], Awaitable[list[JsonObject]]]) -> OutageResult:
        """Wait until every change of the outage has an outcome, and compare."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            records = [record for record in await export_audit() if record["outcome"] in _TERMINAL]
            found = Counter(_key_of(record) for record in records)
            if self._expected <= found.keys() or time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        return OutageResult(self._rows(found, records), self._sentence(records))

    def _edit(self) -> None:
        people, contacts = self._people, [*self._people.phones]
        match self._rng.randint(0, 5):
            case 0:
                people.new_company()
            case 1:
                people.new_deal()
            case 2 | 3 if contacts:
                type_ = self._sim.crm.types.resolve("contacts")
                people.new_phone(self._sim.crm.get(type_, self._rng.choice(contacts)))
            case _:
                people.new_contact()

    def _rows(self, found: Counter[EventKey], records: Sequence[JsonObject]) -> list[ComparisonRow]:
        lost = self._expected - found.keys()
        runs = Counter(
            (record["event_key"], record["handler"]) for record in records if _key_of(record) in self._expected
        )
        twice = {event_key for (event_key, _), count in runs.items() if count > 1}
        phones = wrong_values(self._people, "contacts", "phone", self._people.phones)
        mine = {record_id for record_id in phones[1] if record_id in self._people.phones}
        return [
            ComparisonRow("events of the 30 hours with an outcome", len(self._expected - lost), len(self._expected)),
            ComparisonRow("events lost", len(lost), 0, tuple(sorted(map(str, lost)))),
            ComparisonRow("events that ran twice", len(twice), 0, tuple(sorted(map(str, twice)))),
            ComparisonRow("phones that are not in E.164 after it", len(mine), 0, tuple(sorted(mine))),
        ]

    def _sentence(self, records: Iterable[JsonObject]) -> str:
        events = list(self._sim.deliveries.events)[self._first_serial :]
        given_up = sum(event.state is DeliveryState.LOST for event in events)
        own = [record for record in records if _key_of(record) in self._expected]
        journaled = sum(record["detail"].get("intake") == "journal" for record in own)
        return (
            f"Nothing ran for {_HOURS} hours of HubSpot's time. HubSpot gave up {given_up:,} pushes; the journal "
            f"brought {journaled:,} of {len(self._expected):,} events, and what came both ways ran once. Lost: "
            f"{len(self._expected) - len({_key_of(record) for record in own})}."
        )


def _keys(entry: JsonObject) -> Iterable[EventKey]:
    """Yield the events of an entry for which handlers are registered."""
    family, kind = _FAMILIES.get(entry.get("objectTypeId", "")), _KINDS.get(entry["action"])
    if family is None or kind is None:
        return
    if kind == "propertyChange" and _HANDLED[entry["objectTypeId"]] not in entry["propertyChanges"]:
        return
    at_ms = round(datetime.fromisoformat(entry["occurredAt"]).timestamp() * 1000)
    yield family, kind, str(entry["objectId"]), at_ms


def _key_of(record: JsonObject) -> EventKey:
    kind = record["subscription_type"].partition(".")[2]
    return record["object_type"], kind, record["object_id"], record["occurred_at"]
