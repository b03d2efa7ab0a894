"""The demo's phases: records are created, changed, merged and erased; then limits, redeliveries and forgeries. Seeded.

Deliveries have 1 to 100 events. HubSpot occasionally fails, and enforces its rate limit.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, TypeGuard

import aiohttp

from spokes.simulator.api.faults import Fault, FaultBody
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Latency, Limits, PortalConfig, SenderConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.demo.people import People
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import Attempt
from spokes.simulator.webhooks.signing import SIGNING_VARIANTS

_CLASSIC: Final = ("contact", "company", "ticket")
SUBSCRIPTIONS: Final = (
    *(Subscription(f"{family}.{kind}") for family in _CLASSIC for kind in ("creation", "deletion", "merge", "restore")),
    *(Subscription(f"object.{kind}", object_type="deals") for kind in ("creation", "deletion", "merge", "restore")),
    # Together with the classic subscription, each creation of a company is sent twice.
    Subscription("object.creation", object_type="companies"),
    Subscription("object.creation", object_type="notes"),
    Subscription("object.creation", object_type="starships"),
    Subscription("contact.privacyDeletion"),
    Subscription("contact.propertyChange", "phone"),
    Subscription("contact.propertyChange", "city"),
    Subscription("company.propertyChange", "domain"),
    Subscription("object.propertyChange", "dealstage", "deals"),
    Subscription("ticket.propertyChange", "hs_pipeline_stage"),
    Subscription("ticket.associationChange"),
    Subscription("object.associationChange", object_type="deals"),
    Subscription("line_item.creation"),
    Subscription("conversation.newMessage"),
)
SCOPES: Final = frozenset(  # what the handlers of this project need, as of a well-kept app
    {"oauth", "crm.objects.companies.read", "crm.objects.companies.write", "crm.objects.contacts.read"}
    | {"crm.objects.contacts.write", "crm.objects.deals.read", "tickets"}
)
OTHER_PROGRAM: Final = "another-program"  # the User-Agent of the program that uses up the limit
CALL_LIMIT: Final = 190  # calls in 10 s: the Professional plan's
_REFUSED_VARIANTS: Final = ("forged", "tampered", "stale", "future", "unsigned", "wrong_uri")
_MAX_BATCH: Final = 100  # events of the largest delivery


def demo_config(*, seed: int, public_url: str, connect_url: str, token: str, secret: str) -> SimulatorConfig:
    """Return a simulator that delivers as through a proxy, with the latency and limit of a busy HubSpot portal."""
    portal = PortalConfig(
        token=token,
        limits=Limits(ten_secondly=CALL_LIMIT),
        custom_types={"starships": "2-4711"},
        scopes=SCOPES,
        subscriptions=SUBSCRIPTIONS,
    )
    return SimulatorConfig(
        portals=(portal,),
        client_secret=secret,
        target=Target(public_url, connect_url),
        sender=SenderConfig(linger_s=0.0),
        latency=Latency(20.0, 120.0),
        seed=seed,
        speed=600.0,
    )


@dataclass(slots=True)
class Scenario:
    """One run of all phases; `size` 1.0 causes more than 2,000 events."""

    sim: Simulator
    people: People
    rng: Random
    size: float = 1.0
    refused: dict[str, int] = field(default_factory=dict)  # signing variant -> requests
    # Requests that bypassed the sender's queue.
    manual_requests: list[tuple[Attempt, list[JsonObject]]] = field(default_factory=list)

    async def phases(self) -> AsyncIterator[str]:
        """Run the phases; the caller waits after each until its events are processed."""
        self._add_faults()
        for name, phase in (
            ("records created", self._create_records),
            ("records changed", self._change_records),
            ("records merged and erased", self._merge_and_erase),
            ("limits and forgeries", self._disturb),
        ):
            await phase()
            yield name

    def _add_faults(self) -> None:
        """Make HubSpot fail with 500, a proxy's page, a cut connection, and once after the call took effect."""
        add = self.sim.faults.add
        add(Fault(path="*/batch/read", every=9, status=500))
        add(Fault(path="*/batch/update", every=11, status=502, body=FaultBody.HTML))
        add(Fault(path="*/batch/read", nth=frozenset({4}), reset=True))
        add(Fault(method="POST", path="*/tasks", nth=frozenset({3}), status=500, after_effect=True))

    async def _create_records(self) -> None:
        """Create records, in deliveries of 1 to 100; those of 100 also contain a malformed element."""
        people = self.people
        edits = [
            *[people.new_contact] * self._scaled(420),
            *[people.new_company] * self._scaled(130),
            *[people.new_deal] * self._scaled(110),
            *[people.new_ticket] * self._scaled(40),
            *[people.random_edit] * self._scaled(90),
        ]
        self.rng.shuffle(edits)
        while edits:
            size = self.rng.choice((1, 2, 5, 10, 40, _MAX_BATCH))
            batch, edits = edits[:size], edits[size:]
            if size == _MAX_BATCH:
                batch.insert(self.rng.randrange(len(batch)), self._submit_malformed)
            await self._deliver_together(*batch)

    async def _change_records(self) -> None:
        """Change phones, win deals, close tickets."""
        people = self.people
        await self._deliver_together(*(partial(people.new_phone, contact) for contact in self._sample_contacts(120)))
        for deal in people.records("deals")[: self._scaled(30)]:
            await self._deliver_together(partial(people.win, deal))
        await self._deliver_together(*(partial(people.close, ticket) for ticket in people.records("tickets")))

    async def _merge_and_erase(self) -> None:
        """Merge, restore and erase records, delete some before their events arrive, and send stale changes."""
        people, crm, contacts = self.people, self.sim.crm, self._sample_contacts(60)
        merged, restored, erased, late = (contacts[at::4] for at in range(4))
        await self._deliver_together(
            *(partial(people.merge, *pair) for pair in zip(merged[::2], merged[1::2], strict=False))
        )
        for contact in restored:
            await self._deliver_together(partial(crm.archive, contact, USER), partial(crm.restore, contact, USER))
        await self._deliver_together(*(partial(people.erase, contact) for contact in erased))
        await self._deliver_together(*[people.new_deleted_contact] * self._scaled(12))
        await self._deliver_together(*(partial(people.stale_change, contact) for contact in late))

    async def _disturb(self) -> None:
        """Exhaust the rate limit from another client, redeliver events in other requests, send forged requests."""
        await self._exhaust_limit()
        await self._deliver_together(*[self.people.new_contact] * self._scaled(60))
        events = [event.element for event in self.sim.deliveries.events if _is_event(event.element)]
        redelivered = self.rng.sample(events, self._scaled(240))
        while redelivered:
            size = self.rng.choice((1, 7, 30, _MAX_BATCH))
            await self._send_manually(
                [{**event, "attemptNumber": self.rng.randint(1, 9)} for event in redelivered[:size]]
            )
            redelivered = redelivered[size:]
        await self._send_manually([])
        for variant in _REFUSED_VARIANTS:
            self.refused[variant] = self.rng.randint(2, 5)
            for _ in range(self.refused[variant]):
                await self.sim.sender.send([events[0]], variant=SIGNING_VARIANTS[variant])

    async def _exhaust_limit(self) -> None:
        """Make calls from another client with the same token."""
        headers = {"Authorization": f"Bearer {self.sim.portal.config.token}", "User-Agent": OTHER_PROGRAM}
        async with aiohttp.ClientSession(self.sim.url, headers=headers) as session, asyncio.TaskGroup() as calls:
            for _ in range(CALL_LIMIT):
                calls.create_task(_list_contacts(session))

    async def _send_manually(self, elements: list[JsonObject]) -> None:
        self.manual_requests.append((await self.sim.sender.send(elements), elements))

    async def _deliver_together(self, *edits: Callable[[], object]) -> None:
        """Make several edits, deliver their events together, and wait for the responses."""
        self.sim.sender.hold()
        for edit in edits:
            edit()
        self.sim.sender.release()
        await self.sim.sender.wait_until_drained()

    def _submit_malformed(self) -> None:
        portal_id = self.sim.portal.config.portal_id
        self.sim.sender.submit(portal_id, [{"portalId": portal_id, "subscriptionType": 7}])

    def _sample_contacts(self, number: int) -> list[CrmRecord]:
        return self.rng.sample(self.people.records("contacts"), self._scaled(number))

    def _scaled(self, number: int) -> int:
        return max(1, round(number * self.size))


def _is_event(element: object) -> TypeGuard[JsonObject]:
    return isinstance(element, dict) and "eventId" in element


async def _list_contacts(session: aiohttp.ClientSession) -> None:
    async with session.get("/crm/objects/2026-09/contacts?limit=1") as response:
        await response.read()
