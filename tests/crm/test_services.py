"""A handler's services against the simulated HubSpot over real HTTP."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.errors import (
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectNotFound,
)
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.services import CRM, Services, WriteRecord
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.config import Latency, PortalConfig, SimulatorConfig
from spokes.simulator.portal import TokenState
from spokes.simulator.property_definition import PropertyDefinition

PORTAL = 50112233
PHONE = "+49301234567"
TOKEN = "pat-na1-simulated"
READS = {"contacts": ("phone", "email"), "deals": ("dealname",), "notes": ("hs_note_body", "hs_timestamp")}
MAY = frozenset({
    "contacts.create", "contacts.update", "contacts.upsert", "contacts.archive", "notes.create", "tasks.create",
    "calls.create", "emails.create", "deals.create", "associations.list", "associations.associate",
    "associations.remove", "privacy.delete", "privacy.export", "2-3465404.create",
})  # fmt: skip
# Properties that HubSpot requires of a new record.
REQUIRED_PROPERTIES = {
    "contact": {"email": "a@example.org"},
    "company": {"name": "x"},
    "deal": {"dealname": "x", "dealstage": "closedwon"},
    "ticket": {"subject": "x", "hs_pipeline_stage": "1"},
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    config = PortalConfig(
        properties={
            "contacts": {"customer_number": PropertyDefinition(unique=True), "flag": PropertyDefinition("bool")}
        },
        custom_types={"cars": "2-3465404"},
    )
    async with Simulator(SimulatorConfig(portals=(config,))) as simulator:
        yield simulator


@pytest.fixture
async def crm(sim: Simulator, redis: Redis) -> AsyncIterator[CRM]:
    settings = Settings(
        hubspot_api_url=sim.url, hubspot_access_token=TOKEN, hubspot_api_version="2026-09", audit_key="k" * 32
    )
    crm = await CRM.open(settings, redis)
    await crm.credentials.learn()
    sim.requests.clear()
    yield crm
    await crm.close()


@pytest.fixture
def writes() -> list[WriteRecord]:
    return []


@pytest.fixture
def services(crm: CRM, writes: list[WriteRecord]) -> Services:
    return crm.handler_services(PORTAL, "contact", READS, MAY, UnleasedContext(writes))


def create_record(sim: Simulator, type_name: str = "contacts", **properties: str) -> str:
    """Create a record as a user does; return its id."""
    store = sim.crm
    return store.create(store.types.resolve(type_name), properties, sim.portal.config.own_source).id


async def test_record_has_the_declared_properties_and_its_id(sim: Simulator, services: Services) -> None:
    contact_id = create_record(sim, email="ada@example.org", phone="+49 30 1", city="Berlin")

    contact = await services.contacts.get(contact_id)

    assert (contact.id, contact.type) == (contact_id, "contact")
    assert dict(contact.properties) == {"phone": "+49 30 1", "email": "ada@example.org", "hs_object_id": contact_id}


async def test_unset_property_is_empty_and_an_unread_one_is_an_error(sim: Simulator, services: Services) -> None:
    contact = await services.contacts.get(create_record(sim, email="a@example.org"))

    assert contact["phone"] == ""
    with pytest.raises(KeyError, match=r"contacts\.city was not read: add it to @uses"):
        contact["city"]


async def test_missing_record_is_not_found(services: Services) -> None:
    with pytest.raises(ObjectNotFound):
        await services.contacts.get("1")


async def test_contact_is_read_by_its_email(sim: Simulator, services: Services) -> None:
    contact_id = create_record(sim, email="ada@example.org")

    assert (await services.contacts.get_by("email", "Ada@Example.org")).id == contact_id


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
async def test_services_work_with_every_api_version(sim: Simulator, redis: Redis, version: str) -> None:
    settings = Settings(
        hubspot_api_url=sim.url, hubspot_access_token=TOKEN, hubspot_api_version=version, audit_key="k" * 32
    )
    crm = await CRM.open(settings, redis)
    services = crm.handler_services(PORTAL, "contact", READS, MAY, UnleasedContext())
    contact_id = await services.contacts.create({"email": "a@example.org"})
    note_id = await services.notes.create({"hs_note_body": "x"}, to={"contact": (contact_id,)})

    results = await asyncio.gather(
        services.contacts.get(contact_id),
        services.contacts.get("1"),
        services.associations.list("contacts", contact_id, "notes"),
        return_exceptions=True,
    )
    info = await crm.check_token()
    await crm.close()

    assert (results[0].id, type(results[1]), results[2]) == (contact_id, ObjectNotFound, (note_id,))  # type: ignore[union-attr]
    assert info is not None
    assert info.hub_id == PORTAL


async def test_update_writes_text_and_clears_with_none(sim: Simulator, services: Services) -> None:
    contact_id = create_record(sim, email="a@example.org", phone="1", city="X")

    await services.contacts.update(contact_id, {"hs_lead_score": 7, "flag": True}, phone=None)

    record = sim.crm.find(sim.crm.types.resolve("contacts"), contact_id)
    assert record is not None
    assert {name: record.properties.get(name) for name in ("hs_lead_score", "flag", "phone", "city")} == {
        "hs_lead_score": "7", "flag": "true", "phone": None, "city": "X",
    }  # fmt: skip


async def test_update_without_properties_makes_no_call(
    sim: Simulator, services: Services, writes: list[WriteRecord]
) -> None:
    await services.contacts.update("1", {})

    assert (len(sim.requests), writes) == (0, [])


async def test_concurrent_updates_share_a_call_and_each_is_recorded(
    sim: Simulator, services: Services, writes: list[WriteRecord]
) -> None:
    ids = [create_record(sim, email=f"a{i}@example.org") for i in range(20)]

    await asyncio.gather(*(services.contacts.update(i, phone=PHONE) for i in ids))

    assert len(sim.requests) == 1
    assert {write.object_id for write in writes} == set(ids)


async def test_write_record_names_properties_and_holds_no_values(
    sim: Simulator, services: Services, writes: list[WriteRecord]
) -> None:
    contact_id = create_record(sim, email="a@example.org")

    await services.contacts.update(contact_id, phone="+49301234567")

    assert writes == [
        WriteRecord("contacts.update", "contact", contact_id, ("phone",), writes[0].correlation_id, True, "")
    ]


async def test_refused_write_is_recorded_with_its_reason(services: Services, writes: list[WriteRecord]) -> None:
    with pytest.raises(ObjectNotFound):
        await services.contacts.update("1", phone=PHONE)

    assert [(write.ok, write.reason) for write in writes] == [(False, "object_not_found")]


async def test_cancelled_write_is_recorded_as_cancelled(
    sim: Simulator, services: Services, writes: list[WriteRecord]
) -> None:
    contact_id = create_record(sim, email="a@example.org")
    sim.faults.add(Fault(latency=Latency(1000)))
    update = asyncio.create_task(services.contacts.update(contact_id, phone=PHONE))
    async with asyncio.timeout(20):
        while not len(sim.requests):  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.005)
    update.cancel()
    await asyncio.gather(update, return_exceptions=True)

    assert [(write.ok, write.reason) for write in writes] == [(False, "cancelled")]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.companies.get("1"),
        lambda s: s.companies.get_by("domain", "x"),
        lambda s: s.companies.search(),
        lambda s: anext(s.companies.list()),
        lambda s: s.companies.create({"name": "x"}),
        lambda s: s.deals.update("1", dealname="x"),
        lambda s: s.deals.upsert("id", "1", {}),
        lambda s: s.deals.archive("1"),
        lambda s: s.objects("2-99").create({}),
        lambda s: s.objects("2-99").get("1"),
    ],
)
async def test_undeclared_method_is_refused_without_a_call(
    sim: Simulator, services: Services, writes: list[WriteRecord], call: object
) -> None:
    with pytest.raises(NotPermitted) as raised:
        await call(services)  # type: ignore[operator]

    assert raised.value.scopes
    assert (len(sim.requests), writes) == (0, [])


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.associations.list("contacts", "1", "notes"),
        lambda s: s.associations.associate("contacts", "1", "deals", "2"),
        lambda s: s.associations.remove("contacts", "1", "deals", "2"),
        lambda s: s.privacy.gdpr_delete("1"),
        lambda s: s.privacy.export("1"),
    ],
)
async def test_without_declarations_nothing_is_permitted(sim: Simulator, crm: CRM, call: object) -> None:
    with pytest.raises(NotPermitted):
        await call(crm.handler_services(PORTAL, "contact", {}, frozenset(), UnleasedContext()))  # type: ignore[operator]

    assert len(sim.requests) == 0


async def test_declarations_for_objects_apply_to_the_events_type(sim: Simulator, crm: CRM) -> None:
    contact_id = create_record(sim, email="a@example.org")
    services = crm.handler_services(
        PORTAL, "contact", {"objects": ("email",)}, frozenset({"objects.update"}), UnleasedContext()
    )

    await services.objects("contact").update(contact_id, phone=PHONE)

    assert (await services.contacts.get(contact_id))["email"] == "a@example.org"


async def test_own_write_is_an_echo_at_every_lookup(sim: Simulator, crm: CRM, services: Services) -> None:
    contact_id = create_record(sim, email="a@example.org")
    await services.contacts.update(contact_id, phone=PHONE)

    assert await crm.own_writes.is_echo(PORTAL, "contact", contact_id, "phone", PHONE)
    assert await crm.own_writes.is_echo(PORTAL, "contact", contact_id, "phone", PHONE)
    assert not await crm.own_writes.is_echo(PORTAL, "contact", contact_id, "phone", "+49301234568")


async def test_own_creation_is_an_echo(crm: CRM, services: Services) -> None:
    contact_id = await services.contacts.create({"email": "a@example.org"})

    assert await crm.own_writes.is_echo(PORTAL, "contact", contact_id, "email", "a@example.org")


async def test_refused_write_leaves_no_ledger_entry(crm: CRM, services: Services) -> None:
    with pytest.raises(ObjectNotFound):
        await services.contacts.update("1", phone=PHONE)

    assert not await crm.own_writes.is_echo(PORTAL, "contact", "1", "phone", PHONE)


async def test_write_with_a_lost_response_keeps_its_ledger_entry(sim: Simulator, crm: CRM, services: Services) -> None:
    contact_id = create_record(sim, email="a@example.org")
    sim.faults.add(Fault(method="PATCH", status=502, after_effect=True))

    with pytest.raises(CRMUnavailable):
        await services.contacts.update(contact_id, phone=PHONE)

    assert await crm.own_writes.is_echo(PORTAL, "contact", contact_id, "phone", PHONE)


async def test_creating_an_existing_contact_is_a_conflict_that_names_it(sim: Simulator, services: Services) -> None:
    contact_id = create_record(sim, email="a@example.org")

    with pytest.raises(Conflict) as raised:
        await services.contacts.create({"email": "a@example.org"})

    assert raised.value.existing_id == contact_id


async def test_upsert_creates_and_then_updates(services: Services) -> None:
    first = await services.contacts.upsert("customer_number", "c-1", {"phone": "+49301234560"})
    second = await services.contacts.upsert("customer_number", "c-1", {"phone": PHONE})

    assert first == second
    assert (await services.contacts.get(first))["phone"] == PHONE


async def test_refused_upsert_is_an_error(services: Services) -> None:
    with pytest.raises(CRMError):
        await services.contacts.upsert("no_such_unique", "c-1", {"email": "not an address"})


async def test_archived_object_is_not_found(sim: Simulator, services: Services) -> None:
    contact_id = create_record(sim, email="a@example.org")
    await services.contacts.archive(contact_id)

    with pytest.raises(ObjectNotFound):
        await services.contacts.get(contact_id)


async def test_list_reads_all_pages(sim: Simulator, services: Services) -> None:
    ids = {create_record(sim, email=f"a{i}@example.org") for i in range(120)}

    assert {record.id async for record in services.contacts.list()} == ids
    assert len(sim.requests) == 2


async def test_custom_type_is_addressed_by_its_id(sim: Simulator, crm: CRM, writes: list[WriteRecord]) -> None:
    may = frozenset({"2-3465404.create", "2-3465404.update"})
    services = crm.handler_services(PORTAL, "2-3465404", {"2-3465404": ("plate",)}, may, UnleasedContext(writes))
    cars = services.objects("2-3465404")

    car_id = await cars.create({"plate": "B 1"})

    assert (await cars.get(car_id))["plate"] == "B 1"
    assert writes[0].object_type == "2-3465404"


@pytest.mark.parametrize("service", ["notes", "tasks", "calls", "emails"])
@pytest.mark.parametrize("to", ["contact", "company", "deal", "ticket"])
async def test_engagement_has_a_timestamp_and_its_association(
    sim: Simulator, services: Services, service: str, to: str
) -> None:
    record_id = create_record(sim, to, **REQUIRED_PROPERTIES.get(to, {}))

    engagement_id = await getattr(services, service).create({}, to={to: (record_id,)})

    record = sim.crm.find(sim.crm.types.resolve(service), engagement_id)
    assert record is not None
    assert record.properties["hs_timestamp"]
    assert await services.associations.list(to, record_id, service) == (engagement_id,)


async def test_given_due_date_is_kept(sim: Simulator, services: Services) -> None:
    task_id = await services.tasks.create({"hs_timestamp": "2027-01-01T00:00:00.000Z", "hs_task_subject": "x"})

    record = sim.crm.find(sim.crm.types.resolve("tasks"), task_id)
    assert record is not None
    assert record.properties["hs_timestamp"] == "2027-01-01T00:00:00.000Z"


async def test_pair_without_association_type_is_refused_before_any_call(sim: Simulator, services: Services) -> None:
    with pytest.raises(InvalidRequest):
        await services.notes.create({"hs_note_body": "x"}, to={"product": ("1",)})

    assert len(sim.requests) == 0


@pytest.mark.parametrize("object_id", ["..", ".", ""])
async def test_id_of_dots_never_reaches_another_endpoint(sim: Simulator, services: Services, object_id: str) -> None:
    with pytest.raises(CRMError):
        await services.contacts.archive(object_id)

    assert len(sim.requests) == 0


async def test_id_with_slashes_stays_one_path_segment(sim: Simulator, services: Services) -> None:
    await services.contacts.archive("../../oauth")

    assert {call.path for call in sim.requests} == {"/crm/objects/2026-09/contacts/../../oauth"}


async def test_token_info_names_portal_and_scopes(crm: CRM) -> None:
    info = await crm.check_token()

    assert info is not None
    assert info.hub_id == PORTAL
    assert "crm.objects.contacts.read" in info.scopes


async def test_token_check_counts_in_the_portals_budget(crm: CRM) -> None:
    await crm.check_token()

    assert (await crm.budget.state(PORTAL))["calls"].used == 1


async def test_refused_token_is_not_authorized(sim: Simulator, crm: CRM) -> None:
    sim.portal.token_state = TokenState.REVOKED

    with pytest.raises(NotAuthorized):
        await crm.check_token()


async def test_token_check_during_an_outage_is_none(sim: Simulator, crm: CRM) -> None:
    sim.faults.add(Fault(status=503))

    assert await crm.check_token() is None


async def test_portal_of_other_tokens_is_read_from_account_details(sim: Simulator, crm: CRM) -> None:
    sim.faults.add(Fault(path="*/access-token-info", status=404))

    info = await crm.check_token()

    assert info is not None
    assert (info.hub_id, info.scopes) == (PORTAL, frozenset())


async def test_limit_is_read_from_hubspots_headers(sim: Simulator, crm: CRM, services: Services) -> None:
    await services.contacts.get(create_record(sim, email="a@example.org"))

    assert (await crm.budget.state(PORTAL))["calls"].limit == 190
