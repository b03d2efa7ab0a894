"""The default handlers with a real worker's tools: people's changes are never lost to our own writes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

import handlers
from spokes.core.errors import CRMUnavailable, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.services import CRM
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, ObjectRef
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
        tools = Tools(services, once, current_value, SimpleNamespace, "US", 1)  # type: ignore[arg-type]  # nothing is purged
        await route.function(received, tools)

    return run


def create_record(hubspot: Simulator, type_: str, properties: JsonObject) -> int:
    return int(hubspot.crm.create(hubspot.crm.types.resolve(type_), properties, USER).id)


def properties(hubspot: Simulator, type_: str, object_id: int) -> dict[str, str]:
    return hubspot.crm.get(hubspot.crm.types.resolve(type_), str(object_id)).properties


def change(object_id: int, family: str, name: str, value: str) -> dict[str, object]:
    fields = {"subscriptionType": f"{family}.propertyChange", "propertyName": name, "propertyValue": value}
    return event(objectId=object_id, changeFlag=None, **fields)


async def test_new_contact_is_put_into_canonical_form(run: Run, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "(415) 555-2671", "email": "Ada@Example.COM"})
    await run(event(objectId=contact))
    found = properties(hubspot, "contacts", contact)
    assert (found["phone"], found["email"]) == ("+14155552671", "ada@example.com")


@pytest.mark.parametrize(
    ("phone", "email"),
    [
        ("+1 202-555-0143 ext. 227", "info@xn--kse-qla.de"),
        ("+1 202-555-0143;ext=9", "info@käse.de"),
        ("+1 202-555-0143, 42#", "ada@example.org"),
        ("1-800-FLOWERS", "ada@example.org"),
    ],
)
async def test_value_that_the_canonical_form_would_shorten_is_not_written(
    run: Run, hubspot: Simulator, phone: str, email: str
) -> None:
    contact = create_record(hubspot, "contacts", {"phone": phone, "email": email})
    await run(event(objectId=contact))
    assert hubspot.requests.find(method="PATCH") == []


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


async def test_phone_set_by_a_person_later_counts_before_the_event_value(run: Run, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "(415) 555-2672"})
    await run(change(contact, "contact", "phone", "(415) 555-2671"))
    assert properties(hubspot, "contacts", contact)["phone"] == "+14155552672"


async def test_email_set_by_a_person_is_restored_over_our_write(run: Run, crm: CRM, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"email": "before@example.com", "phone": "+14155552671"})
    await crm.own_writes.record_write(PORTAL, "contact", str(contact), {"email": "before@example.com"})
    await run(change(contact, "contact", "email", "After@EXAMPLE.com"))
    assert properties(hubspot, "contacts", contact)["email"] == "after@example.com"


async def test_phone_that_was_cleared_or_withheld_is_read(run: Run, hubspot: Simulator) -> None:
    contact = create_record(hubspot, "contacts", {"phone": "(415) 555-2671"})
    await run(change(contact, "contact", "phone", "REDACTED"))
    assert properties(hubspot, "contacts", contact)["phone"] == "+14155552671"


async def test_domain_set_by_a_person_is_restored_over_our_write(run: Run, crm: CRM, hubspot: Simulator) -> None:
    company = create_record(hubspot, "companies", {"name": "Acme", "domain": "old.example.com"})
    await crm.own_writes.record_write(PORTAL, "company", str(company), {"domain": "old.example.com"})
    await run(change(company, "company", "domain", "https://www.New.example.com/about"))
    assert properties(hubspot, "companies", company)["domain"] == "new.example.com"


async def test_canonical_domain_is_not_written(run: Run, hubspot: Simulator) -> None:
    company = create_record(hubspot, "companies", {"name": "Acme", "domain": "acme.example.com"})
    await run(event(objectId=company, subscriptionType="company.creation"))
    assert hubspot.requests.find(method="PATCH") == []


async def test_value_set_on_a_merged_record_is_not_written_to_the_surviving_record(
    run: Run, hubspot: Simulator
) -> None:
    type_ = hubspot.crm.types.resolve("contacts")
    kept, gone = (
        hubspot.crm.get(type_, str(create_record(hubspot, "contacts", {"phone": f"+1415555{n}"}))) for n in (2671, 2672)
    )
    survivor = hubspot.crm.merge(kept, gone, USER)
    await run(change(int(gone.id), "contact", "phone", "(415) 555-2672"))
    assert survivor.properties["phone"] == "+14155552671"


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


async def test_closed_ticket_gets_one_note_although_a_merge_follows_an_unconfirmed_creation(
    run: Run, redis: Redis, hubspot: Simulator
) -> None:
    ticket = create_record(hubspot, "tickets", {"subject": "Help", "hs_pipeline_stage": "4"})
    type_, associations = hubspot.crm.types.resolve("contacts"), hubspot.crm.associations
    kept, gone = (hubspot.crm.get(type_, str(create_record(hubspot, "contacts", {"city": "Bonn"}))) for _ in range(2))
    plain = associations.types.unlabelled(TICKET, CONTACT)
    associations.add(ObjectRef(TICKET, str(ticket)), ObjectRef(CONTACT, gone.id), [plain], USER)
    hubspot.faults.add(Fault(method="POST", path="*/notes", reset=True, after_effect=True, times=1))
    with pytest.raises(CRMUnavailable):
        await run(change(ticket, "ticket", "hs_pipeline_stage", "4"))
    hubspot.crm.merge(kept, gone, USER)
    await redis.delete(keys.once_effects(PORTAL, "ticket", str(ticket)) + ":closed-note")  # some seconds later
    await run(change(ticket, "ticket", "hs_pipeline_stage", "4"))
    assert len(list(hubspot.crm.records(hubspot.crm.types.resolve("notes")))) == 1
