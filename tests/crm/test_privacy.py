"""Privacy: an erasure is believed when neither read nor search finds the person; an export shows all that is kept."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable, NotPermitted, ObjectNotFound
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.privacy import Privacy
from spokes.crm.services import CRM
from spokes.simulator.api.faults import Fault
from tests.support.crm_world import PORTAL, TOKEN, CRMWorld, open_world
from tests.support.scripted_hubspot import RecordedRequest, ScriptedHubSpot, json_response

NOW_ONLY = (0.0, 0.01)
ADA = "ada@example.org"


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis) as world:
        yield world


def privacy(world: CRMWorld) -> Privacy:
    return Privacy(world.services("privacy.delete", "privacy.export").privacy._access, check_delays_s=NOW_ONLY)


@pytest.mark.parametrize("by_address", [False, True])
async def test_erased_contact_is_gone_and_erasing_it_again_is_no_error(world: CRMWorld, by_address: bool) -> None:
    contact_id = world.create(email=ADA)
    person = ADA if by_address else contact_id

    await privacy(world).gdpr_delete(person)
    await privacy(world).gdpr_delete(person)

    assert world.find("contacts", contact_id) is None
    assert [(w.method, w.object_type, w.ok) for w in world.writes] == [("privacy.delete", "contact", True)] * 2
    assert "POST contacts/search" in world.calls


async def test_address_is_not_journalled(world: CRMWorld) -> None:
    world.create(email=ADA)

    await privacy(world).gdpr_delete(ADA)

    assert ADA not in repr(world.writes)


async def test_address_that_nobody_has_is_blocked(world: CRMWorld) -> None:
    await privacy(world).gdpr_delete(ADA)

    assert world.sim.crm.blocked_emails == {ADA}


async def test_erasure_that_left_the_contact_there_is_not_believed(world: CRMWorld) -> None:
    contact_id = world.create(email=ADA)
    world.sim.faults.add(Fault(method="POST", path="*/gdpr-delete", status=200))

    with pytest.raises(CRMUnavailable):
        await privacy(world).gdpr_delete(contact_id)


@pytest.mark.parametrize(("lag", "believed"), [(1, True), (9, False)])
async def test_search_that_still_finds_the_contact_is_asked_again_for_a_while(
    redis: Redis, lag: int, believed: bool
) -> None:
    searches = 0

    def respond(asked: RecordedRequest) -> object:
        nonlocal searches
        if asked.path.endswith("/search"):
            searches += 1
            return json_response({"results": [{"id": "7"}] if searches <= lag else []})
        return json_response({}, 204 if asked.path.endswith("gdpr-delete") else 404)

    async with ScriptedHubSpot(respond) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token=TOKEN, audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset({"privacy.delete"}), UnleasedContext())
        told = True
        try:
            await Privacy(services.privacy._access, check_delays_s=(0.0, 0.01, 0.01)).gdpr_delete("7")
        except CRMUnavailable:
            told = False
        await crm.close()

    assert told is believed


@pytest.mark.parametrize("person", ["id", "address", "former"])
async def test_export_shows_all_that_is_kept_through_merges(world: CRMWorld, person: str) -> None:
    first, second = world.create(email=ADA, phone="1"), world.create(email="b@example.org")
    services = world.services("notes.create", "associations.associate", "privacy.export")
    note_id = await services.notes.create({"hs_note_body": "x"}, to={"contact": (second,)})
    company_id = world.create("companies", name="x")
    await services.associations.associate("contact", first, "company", company_id)
    survivor = world.merge(first, second)

    found = await services.privacy.export({"id": survivor, "address": "b@example.org", "former": first}[person])

    assert (found.contact.id, found.contact["email"], set(found.former_ids)) == (survivor, ADA, {first, second})
    assert [note["hs_note_body"] for note in found.engagements["notes"]] == ["x"]
    assert {kind: [end.id for end in ends] for kind, ends in found.associations.items()} == {
        "companies": [company_id], "notes": [note_id],
    }  # fmt: skip


async def test_export_without_the_list_of_properties_says_so(world: CRMWorld) -> None:
    """The simulator has no properties API, as a token may lack the right to it."""
    found = await privacy(world).export(world.create(email=ADA))

    assert found.withheld == {"contacts": "declared_only"}
    assert set(found.contact.properties) == {"phone", "email", "hs_object_id", "hs_merged_object_ids"}


async def test_export_shows_every_property_that_the_portal_has(redis: Redis) -> None:
    def respond(asked: RecordedRequest) -> object:
        if "/properties/" in asked.path:
            return json_response({"results": [{"name": "email"}, {"name": "shoe_size"}]})
        if "/associations/" in asked.path:
            return json_response({"results": []})
        return json_response({"results": [{"id": "7", "properties": {"email": ADA, "shoe_size": "41"}}]})

    async with ScriptedHubSpot(respond) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token=TOKEN, audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset({"privacy.export"}), UnleasedContext())
        found = await services.privacy.export("7")
        await crm.close()

    assert found.contact["shoe_size"] == "41"
    assert found.withheld == {}
    assert found.as_dict()["former_ids"] == ()


async def test_what_may_not_be_shown_is_named(world: CRMWorld) -> None:
    contact_id = world.create(email=ADA)
    world.sim.faults.add(Fault(path="*/contacts/emails/batch/read", status=403))

    found = await privacy(world).export(contact_id)

    assert found.withheld["emails"] == "not_permitted"


async def test_nobody_can_be_exported_who_is_not_there(world: CRMWorld) -> None:
    with pytest.raises(ObjectNotFound):
        await privacy(world).export("nobody@example.org")


@pytest.mark.parametrize("method", ["gdpr_delete", "export"])
async def test_what_was_not_declared_is_refused_without_a_call(world: CRMWorld, method: str) -> None:
    with pytest.raises(NotPermitted):
        await getattr(world.services().privacy, method)("7")

    assert world.calls == []
