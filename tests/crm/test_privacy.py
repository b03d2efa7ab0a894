"""A deletion succeeds once neither a read nor a search finds the contact; an export shows everything."""

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable, NotPermitted, ObjectNotFound
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.privacy import Privacy
from spokes.crm.services import CRM
from spokes.simulator.api.faults import Fault
from tests.support.hubspot.crm_world import ANY_PROPERTY, PORTAL, TOKEN, CRMWorld, open_world
from tests.support.hubspot.scripted_hubspot import RecordedRequest, ScriptedHubSpot, json_response

NOW_ONLY = (0.0, 0.01)
ADA = "ada@example.org"


def privacy(world: CRMWorld) -> Privacy:
    return Privacy(world.services("privacy.delete", "privacy.export").privacy._access, check_delays_s=NOW_ONLY)


@pytest.mark.parametrize("by_address", [False, True])
async def test_deleted_contact_is_gone_and_deleting_it_again_is_no_error(world: CRMWorld, by_address: bool) -> None:
    contact_id = world.create(email=ADA)
    person = ADA if by_address else contact_id

    await privacy(world).gdpr_delete(person)
    await privacy(world).gdpr_delete(person)

    assert world.find("contacts", contact_id) is None
    assert [(w.method, w.object_type, w.ok) for w in world.writes] == [("privacy.delete", "contact", True)] * 2
    assert "POST contacts/search" in world.calls


async def test_write_record_holds_no_address(world: CRMWorld) -> None:
    world.create(email=ADA)

    await privacy(world).gdpr_delete(ADA)

    assert ADA not in repr(world.writes)


async def test_address_without_contact_is_blocked(world: CRMWorld) -> None:
    await privacy(world).gdpr_delete(ADA)

    assert world.sim.crm.blocked_emails == {ADA}


async def test_deletion_that_left_the_contact_is_an_error(world: CRMWorld) -> None:
    contact_id = world.create(email=ADA)
    world.sim.faults.add(Fault(method="POST", path="*/gdpr-delete", status=200))

    with pytest.raises(CRMUnavailable):
        await privacy(world).gdpr_delete(contact_id)


@pytest.mark.parametrize(("lag", "succeeds"), [(1, True), (9, False)])
async def test_search_index_may_lag_behind_a_deletion_for_a_while(redis: Redis, lag: int, succeeds: bool) -> None:
    searches = 0

    def respond(request: RecordedRequest) -> object:
        nonlocal searches
        if request.path.endswith("/search"):
            searches += 1
            return json_response({"results": [{"id": "7"}] if searches <= lag else []})
        return json_response({}, 204 if request.path.endswith("gdpr-delete") else 404)

    async with ScriptedHubSpot(respond, portal_id=PORTAL) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token=TOKEN, audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset({"privacy.delete"}), UnleasedContext())
        is_deleted = True
        try:
            await Privacy(services.privacy._access, check_delays_s=(0.0, 0.01, 0.01)).gdpr_delete("7")
        except CRMUnavailable:
            is_deleted = False
        await crm.close()

    assert is_deleted is succeeds


@pytest.mark.parametrize("person", ["id", "address", "former"])
async def test_export_shows_everything_through_merges(world: CRMWorld, person: str) -> None:
    first, second = world.create(email=ADA, phone="1"), world.create(email="b@example.org")
    services = world.services("notes.create", "associations.associate", "privacy.export")
    note_id = await services.notes.create({"hs_note_body": "x"}, to={"contact": (second,)})
    company_id = world.create("companies", name="x")
    await services.associations.associate("contact", first, "company", company_id)
    survivor = world.merge(first, second)

    export = await services.privacy.export({"id": survivor, "address": "b@example.org", "former": first}[person])

    assert (export.contact.id, export.contact["email"], set(export.former_ids)) == (survivor, ADA, {first, second})
    assert [note["hs_note_body"] for note in export.engagements["notes"]] == ["x"]
    assert {type_name: [one.id for one in objects] for type_name, objects in export.associations.items()} == {
        "companies": [company_id], "notes": [note_id],
    }  # fmt: skip


async def test_export_without_property_list_is_marked(redis: Redis) -> None:
    """An account that lists no properties, as for a token without the right to it."""
    async with open_world(redis, ANY_PROPERTY) as world:
        export = await privacy(world).export(world.create(email=ADA))

    assert export.withheld == {"contacts": "declared_only"}
    assert set(export.contact.properties) == {"phone", "email", "hs_object_id", "hs_merged_object_ids"}


async def test_export_shows_every_property_of_the_portal(redis: Redis) -> None:
    def respond(request: RecordedRequest) -> object:
        if "/properties/" in request.path:
            return json_response({"results": [{"name": "email"}, {"name": "shoe_size"}]})
        if "/associations/" in request.path:
            return json_response({"results": []})
        return json_response({"results": [{"id": "7", "properties": {"email": ADA, "shoe_size": "41"}}]})

    async with ScriptedHubSpot(respond, portal_id=PORTAL) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token=TOKEN, audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset({"privacy.export"}), UnleasedContext())
        export = await services.privacy.export("7")
        await crm.close()

    assert export.contact["shoe_size"] == "41"
    assert export.withheld == {}
    assert export.as_dict()["former_ids"] == ()


async def test_withheld_type_is_named(world: CRMWorld) -> None:
    contact_id = world.create(email=ADA)
    world.sim.faults.add(Fault(path="*/contacts/emails/batch/read", status=403))

    export = await privacy(world).export(contact_id)

    assert export.withheld["emails"] == "not_permitted"


async def test_missing_contact_cannot_be_exported(world: CRMWorld) -> None:
    with pytest.raises(ObjectNotFound):
        await privacy(world).export("nobody@example.org")


@pytest.mark.parametrize("method", ["gdpr_delete", "export"])
async def test_undeclared_method_is_refused_without_a_call(world: CRMWorld, method: str) -> None:
    with pytest.raises(NotPermitted):
        await getattr(world.services().privacy, method)("7")

    assert world.calls == []
