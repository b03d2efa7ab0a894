"""The default handlers with a real worker's tools: people's changes are never lost to our own writes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

import handlers
from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.services import CRM
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.crm.object_types import CONTACT, TICKET
from spokes.simulator.errors import JsonObject
from spokes.tools import Tools
from tests.support.events import event
from workers.delivery.current_value import EventCurrentValue
from workers.delivery.once import OnceGuard

PORTAL = 50112233
Run = Callable[[dict[str, object]], Awaitable[None]]


@pytest.fixture
async def crm(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> AsyncIterator[CRM]:
    crm = await CRM.open(Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url}), redis)
    await crm.credentials.learn()
    hubspot.requests.clear()
    yield crm
    await crm.close()


@pytest.fixture
def run(crm: CRM, redis: Redis) -> Run:
    async def run(raw: dict[str, object]) -> None:
        received = Event(raw)
        route = handlers.ROUTER.match(received)
        assert route is not None
        uses = route.uses

        def services() -> object:
            return crm.handler_services(PORTAL, received.object_type, uses.reads, uses.may, UnleasedContext())

        once = partial(OnceGuard, redis, received)
        current_value = EventCurrentValue(crm.own_writes, received, received)
        source = SimpleNamespace(crm=services, once=once, default_region="US")
        tools = Tools(source, current_value, 1)  # type: ignore[arg-type]  # nothing else is used
        await route.function(received, tools)

    return run


def create_record(hubspot: Simulator, type_: str, properties: JsonObject) -> int:
    return int(hubspot.crm.create(hubspot.crm.types.resolve(type_), properties, USER).id)


def properties(hubspot: Simulator, type_: str, object_id: int) -> dict[str, str]:
    return hubspot.crm.get(hubspot.crm.types.resolve(type_), str(object_id)).properties


def change(object_id: int, family: str, name: str, value: str) -> dict[str, object]:
    fields = {"subscriptionType": f"{family}.propertyChange", "propertyName": name, "propertyValue": value}
    return event(objectId=object_id, changeFlag=None, **fields)


async def test_extension_set_by_a_person_is_restored_over_our_write(run: Run, crm: CRM, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "+12025550143"})
    await crm.own_writes.record_write(PORTAL, "contact", str(contact), {"phone": "+12025550143"})
    await run(change(contact, "contact", "phone", "+1 202-555-0143 x 9"))
    assert properties(hubspot, "contacts", contact)["phone"] == "+1 202-555-0143 x 9"


@pytest.mark.parametrize(
    ("knew_until_ms", "phone"),  # relative to the event's time; None if nothing was read
    [(None, "+14155552671"), (-1, "+14155552671"), (0, "+14155550000")],
)
async def test_phone_set_by_a_person_is_restored_over_our_write_unless_that_was_based_on_it(
    run: Run, crm: CRM, hubspot: Simulator, knew_until_ms: int | None, phone: str
) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "+14155550000"})
    element = change(contact, "contact", "phone", "(415) 555-2671")
    rests_on = {} if knew_until_ms is None else {"phone": int(str(element["occurredAt"])) + knew_until_ms}
    await crm.own_writes.record_write(PORTAL, "contact", str(contact), {"phone": "+14155550000"}, based_on_ms=rests_on)
    await run(element)
    assert properties(hubspot, "contacts", contact)["phone"] == phone


async def test_phone_taken_from_an_event_is_based_on_the_event_time(run: Run, crm: CRM, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "+14155550000"})
    element = change(contact, "contact", "phone", "(415) 555-2671")
    await crm.own_writes.record_write(PORTAL, "contact", str(contact), {"phone": "+14155550000"})
    await run(element)
    assert (
        await crm.own_writes.basis_of_write(PORTAL, "contact", str(contact), "phone", "+14155552671")
        == element["occurredAt"]
    )


async def test_phone_that_was_read_is_based_on_the_last_change_of_its_record(
    run: Run, crm: CRM, hubspot: Simulator
) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "(415) 555-2671"})
    record = hubspot.crm.get(hubspot.crm.types.resolve("contacts"), str(contact))
    updated_ms = record.updated_at_ms
    await run(event(objectId=contact))
    assert await crm.own_writes.basis_of_write(PORTAL, "contact", str(contact), "phone", "+14155552671") == updated_ms


async def test_email_set_by_a_person_is_restored_over_our_write(run: Run, crm: CRM, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"email": "before@example.com", "phone": "+14155552671"})
    await crm.own_writes.record_write(PORTAL, "contact", str(contact), {"email": "before@example.com"})
    await run(change(contact, "contact", "email", "After@EXAMPLE.com"))
    assert properties(hubspot, "contacts", contact)["email"] == "after@example.com"


async def test_domain_set_by_a_person_is_restored_over_our_write(run: Run, crm: CRM, hubspot: Simulator) -> None:
    company = create_record(hubspot, "companies", {"name": "Acme", "domain": "old.example.com"})
    await crm.own_writes.record_write(PORTAL, "company", str(company), {"domain": "old.example.com"})
    await run(change(company, "company", "domain", "https://www.New.example.com/about"))
    assert properties(hubspot, "companies", company)["domain"] == "new.example.com"


async def test_contact_deleted_after_it_was_listed_delays_the_note_on_its_ticket(
    run: Run, hubspot: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = create_record(hubspot, "tickets", {"subject": "Help", "hs_pipeline_stage": "4"})
    contact = create_record(hubspot, "contacts", {"phone": "+14155552671"})
    type_ = hubspot.crm.types.resolve("contacts")
    hubspot.crm.erase(hubspot.crm.get(type_, str(contact)), USER)
    listed = [(str(contact), [hubspot.crm.associations.types.unlabelled(TICKET, CONTACT)])]
    monkeypatch.setattr(hubspot.crm, "associated", lambda *_: listed)
    with pytest.raises(RetryLater):
        await run(change(ticket, "ticket", "hs_pipeline_stage", "4"))
