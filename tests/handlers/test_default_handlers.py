"""The default handlers, tested with the kit that handler authors use."""

import pytest

from spokes.testing import Spokes


async def test_new_contact_is_put_into_canonical_form(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(415) 555-2671", email="Ada@Example.COM")
    await spokes.deliver("contact.creation", ada)
    assert (ada["phone"], ada["email"]) == ("+14155552671", "ada@example.com")


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
    spokes: Spokes, phone: str, email: str
) -> None:
    ada = await spokes.hubspot.contacts.create(phone=phone, email=email)
    assert (await spokes.deliver("contact.creation", ada)).writes == []


async def test_phone_in_canonical_form_does_not_depend_on_crashes(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(415) 555-2671", email="Ada@Example.COM")
    await spokes.assert_idempotent("contact.creation", ada)


async def test_phone_set_by_a_person_later_counts_before_the_event_value(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(415) 555-2672")
    await spokes.deliver("contact.propertyChange", ada, property="phone", propertyValue="(415) 555-2671")
    assert ada["phone"] == "+14155552672"


async def test_phone_that_was_cleared_or_withheld_is_read(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(415) 555-2671")
    await spokes.deliver("contact.propertyChange", ada, property="phone", propertyValue="REDACTED")
    assert ada["phone"] == "+14155552671"


async def test_canonical_domain_is_not_written(spokes: Spokes) -> None:
    acme = await spokes.hubspot.companies.create(name="Acme", domain="acme.example.com")
    assert (await spokes.deliver("company.creation", acme)).writes == []


async def test_value_set_on_a_merged_record_is_not_written_to_the_surviving_record(spokes: Spokes) -> None:
    kept, gone = [await spokes.hubspot.contacts.create(phone=f"+1415555{number}") for number in (2671, 2672)]
    late = spokes.event_json("contact.propertyChange", gone, property="phone", value="(415) 555-2672")
    await spokes.merge(kept, gone)
    await spokes.deliver_json(late)
    assert spokes.hubspot.contacts[gone.id]["phone"] == "+14155552671"


async def test_won_deal_gets_one_task_despite_crashes(spokes: Spokes) -> None:
    deal = await spokes.hubspot.deals.create(dealname="Rent", dealstage="closedwon")
    await spokes.assert_idempotent("deal.creation", deal)
    assert len(spokes.hubspot.associated(deal, "tasks")) == 1


async def test_open_deal_gets_no_task(spokes: Spokes) -> None:
    deal = await spokes.hubspot.deals.create(dealname="Rent", dealstage="appointmentscheduled")
    assert (await spokes.deliver("deal.creation", deal)).writes == []


async def test_deal_that_is_won_twice_gets_one_task(spokes: Spokes) -> None:
    deal = await spokes.hubspot.deals.create(dealname="Rent")
    for stage in ("closedwon", "appointmentscheduled", "closedwon"):
        await spokes.deliver("deal.propertyChange", deal, property="dealstage", value=stage)
    assert len(spokes.hubspot.tasks) == 1


async def test_closed_ticket_gets_one_note_despite_crashes(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    ticket = await spokes.hubspot.tickets.create(subject="Help", hs_pipeline_stage="1")
    await spokes.hubspot.associate(ticket, ada)
    await spokes.assert_idempotent("ticket.propertyChange", ticket, property="hs_pipeline_stage", value="4")
    assert len(spokes.hubspot.associated(ada, "notes")) == 1


async def test_closed_ticket_gets_one_note_although_a_merge_follows_an_unconfirmed_creation(spokes: Spokes) -> None:
    kept, gone = [await spokes.hubspot.contacts.create(city="Bonn") for _ in range(2)]
    ticket = await spokes.hubspot.tickets.create(subject="Help", hs_pipeline_stage="4")
    await spokes.hubspot.associate(ticket, gone)
    await spokes.outage(status=0, calls=1, path="*/notes", after_effect=True)
    first = await spokes.deliver("ticket.propertyChange", ticket, property="hs_pipeline_stage", follow_retries=False)
    await spokes.merge(kept, gone)
    await spokes.advance("1 hour")
    assert first.outcome == "retried"
    assert len(spokes.hubspot.notes) == 1


async def test_erased_contact_is_purged(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    assert (await spokes.erase(ada)).calls == ["purge"]
