"""A HubSpot in a process of its own, whose three portals changed while the receiver was dead.

It answers as slowly as HubSpot does, and knows what the events of the outage must say, and which calls suffice to read
them.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from math import ceil
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from spokes.backfill.crm_reader import ARCHIVED_PAGE, HISTORY_BATCH
from spokes.backfill.window_walk import PAGE_SIZE
from spokes.core import clock
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.clock import Clock
from spokes.simulator.config import OAUTH_LIMITS, Latency, Limits, PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.portal import Portal

PORTALS: Final = (101, 102, 103)
HOUR_MS: Final = 3_600_000
OUTAGE_H: Final = 26
BEFORE_H: Final = 1  # in which events were delivered; the backfill reads this hour too
SHARE_ONE_TIMESTAMP: Final = 0.075
SHARE_DELIVERED: Final = 0.05
SHARE_DELETED: Final = 0.01
SHARE_MERGED: Final = 0.01
SHARE_MERGED_BEFORE: Final = 0.001  # and pushed
SHARE_NEW: Final = 0.05
LIMITS: Final = OAUTH_LIMITS  # of an app in several portals
LATENCY: Final = Latency(150.0, 600.0)
_WINDOW_S: Final = 10.0


class PastClock(Clock):
    """HubSpot's clock: it runs as ours does, and is set back while the past is written."""

    behind_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return super().now_ms() - self.behind_ms


@dataclass
class Truth:
    """What the events of one portal must say in the end, and what was delivered before the outage."""

    phones: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    merged: set[str] = field(default_factory=set)
    delivered: list[dict[str, object]] = field(default_factory=list)


def write_past(portal: Portal, hands: PastClock, changes: int, rng: random.Random) -> Truth:
    """Write the past of one portal: contacts, an hour with deliveries, and the outage."""
    past = _Past(portal, hands, rng)
    hands.behind_ms = (OUTAGE_H + 4) * HOUR_MS
    contacts = [past.create("0") for _ in range(max(10, round(changes * 0.85)))]
    rng.shuffle(contacts)
    taken = iter(contacts)

    def some(share: float) -> list[CrmRecord]:
        return [next(taken) for _ in range(round(changes * share))]

    past.deliver_changes(some(SHARE_DELIVERED))
    past.deliver_merges(some(2 * SHARE_MERGED_BEFORE))
    together = some(SHARE_ONE_TIMESTAMP)
    deleted, merged = some(SHARE_DELETED), some(2 * SHARE_MERGED)
    new = round(changes * SHARE_NEW)
    others = sum(map(len, (past.truth.delivered, together, deleted))) + len(merged) // 2
    past.change(list(taken), changes - new - others)
    past.create_new(new)
    past.delete(deleted)
    past.merge(merged)
    past.change_at_once(together)
    hands.behind_ms = 0
    return past.truth


@dataclass
class _Past:
    """The steps of one portal's past, each at random times before or during the outage."""

    portal: Portal
    hands: PastClock
    rng: random.Random
    truth: Truth = field(default_factory=Truth)

    def create(self, phone: str) -> CrmRecord:
        """Create a contact now."""
        crm = self.portal.crm
        return crm.create(crm.types.resolve("contacts"), {"phone": phone}, USER)

    def deliver_changes(self, records: list[CrmRecord]) -> None:
        """Change phone numbers before the outage; the events are delivered."""
        for record in records:
            self._go_before_outage()
            self._set_phone(record, "delivered")
            event = _pushed("propertyChange", record, self.portal)
            self.truth.delivered.append(event | {"propertyName": "phone", "propertyValue": "delivered"})

    def deliver_merges(self, records: list[CrmRecord]) -> None:
        """Merge records in pairs before the outage; the events are delivered."""
        for primary, other in zip(records[::2], records[1::2], strict=False):
            self._go_before_outage()
            survivor = self.portal.crm.merge(primary, other, USER)
            self.truth.merged.add(survivor.id)
            self.truth.delivered.append(
                _pushed("merge", survivor, self.portal) | {
                    "primaryObjectId": int(primary.id), "mergedObjectIds": [int(other.id)],
                    "newObjectId": int(survivor.id), "numberOfPropertiesMoved": 0,
                }
            )  # fmt: skip

    def change(self, records: list[CrmRecord], times: int) -> None:
        """Change the phone numbers of these records in turn, so many times in all."""
        for number in range(times):
            self._go_into_outage()
            record = records[number % len(records)]
            value = f"+{self.rng.randrange(10**9)}"
            if record.updated_at_ms <= self.hands.now_ms():  # the past is written in any order, a record's own in order
                self._set_phone(record, value)

    def create_new(self, amount: int) -> None:
        """Create contacts during the outage."""
        for _ in range(amount):
            self._go_into_outage()
            record = self.create("new")
            self.truth.created.add(record.id)
            self.truth.phones[record.id] = "new"

    def delete(self, records: list[CrmRecord]) -> None:
        """Delete records during the outage."""
        for record in records:
            self._go_into_outage()
            self.portal.crm.archive(record, USER)
            self.truth.deleted.add(record.id)

    def merge(self, records: list[CrmRecord]) -> None:
        """Merge records in pairs during the outage."""
        for primary, other in zip(records[::2], records[1::2], strict=False):
            self._go_into_outage()
            self.truth.merged.add(self.portal.crm.merge(primary, other, USER).id)

    def change_at_once(self, records: list[CrmRecord]) -> None:
        """Change all phone numbers in one millisecond of the outage."""
        at = clock.now_ms() - 13 * HOUR_MS
        for record in records:
            self.hands.behind_ms = clock.now_ms() - at
            self._set_phone(record, "together")

    def _set_phone(self, record: CrmRecord, phone: str) -> None:
        self.portal.crm.update(record, {"phone": phone}, USER)
        self.truth.phones[record.id] = phone

    def _go_before_outage(self) -> None:
        self.hands.behind_ms = OUTAGE_H * HOUR_MS + self.rng.randrange(1, BEFORE_H * HOUR_MS)

    def _go_into_outage(self) -> None:
        self.hands.behind_ms = self.rng.randrange(HOUR_MS // 6, OUTAGE_H * HOUR_MS)


def _pushed(kind: str, record: CrmRecord, portal: Portal) -> dict[str, object]:
    """Return what every pushed event of a contact's last change has."""
    return {
        "eventId": 1, "subscriptionId": 1, "portalId": portal.config.portal_id, "appId": 1, "attemptNumber": 0,
        "occurredAt": record.updated_at_ms, "subscriptionType": f"contact.{kind}", "objectId": int(record.id),
        "changeSource": "CRM_UI", "sourceId": "userId:1",
    }  # fmt: skip


def limits_at(share: float) -> Limits:
    """Return a share of the limits of an app that is in several portals."""
    return replace(
        LIMITS,
        ten_secondly=max(1, round(LIMITS.ten_secondly * share)),
        search_secondly=max(1, round(LIMITS.search_secondly * share)),
    )


def least(hub: Simulator, since: int, limits: Limits) -> tuple[int, float]:
    """Return the least calls that HubSpot's page sizes allow, and the least seconds that its limits allow."""
    calls, seconds = 0, 0.0
    for portal in hub.portals.values():
        type_ = portal.crm.types.resolve("contacts")
        changed = sum(record.updated_at_ms >= since for record in portal.crm.records(type_))
        archived = sum(1 for _ in portal.crm.records(type_, archived=True))
        searches = ceil(changed / PAGE_SIZE)
        reads = ceil(changed / HISTORY_BATCH) + ceil(archived / ARCHIVED_PAGE)
        calls += searches + reads
        seconds = max(
            seconds,
            _least_seconds(searches, limits.search_secondly, 1.0),
            _least_seconds(reads, limits.ten_secondly, _WINDOW_S),
        )
    return calls, seconds


def _least_seconds(calls: int, limit: int, window_s: float) -> float:
    """Return the least seconds for calls of which `limit` are allowed in a window, those of the first one at once."""
    return max(0, ceil(calls / limit) - 1) * window_s


class Account(NamedTuple):
    """What the process that plays HubSpot says about it."""

    url: str
    truths: dict[int, Truth]
    least_calls: int
    least_seconds: float


def play_hubspot(pipe: Connection, changes: int, seed: int, limits: Limits) -> None:
    """Play HubSpot in a process of its own until the pipe closes: it needs as much time as the backfills."""
    asyncio.run(_play_hubspot(pipe, changes, seed, limits))


async def _play_hubspot(pipe: Connection, changes: int, seed: int, limits: Limits) -> None:
    rng, hands = random.Random(seed), PastClock()
    portals = tuple(
        PortalConfig(portal_id=portal_id, token=token_of(portal_id), limits=limits) for portal_id in PORTALS
    )
    async with Simulator(SimulatorConfig(portals=portals, latency=LATENCY), clock=hands) as hub:
        truths = {
            portal_id: write_past(hub.portals[portal_id], hands, changes // len(PORTALS), rng) for portal_id in PORTALS
        }
        calls, seconds = least(hub, clock.now_ms() - (OUTAGE_H + BEFORE_H) * HOUR_MS, limits)
        pipe.send(Account(hub.url, truths, calls, seconds))
        while await asyncio.to_thread(pipe.recv):  # asked for our CPU time, until None
            pipe.send(time.process_time())


def token_of(portal_id: int) -> str:
    """Return the access token of a portal."""
    return f"pat-na1-{portal_id}"
