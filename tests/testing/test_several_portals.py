"""Several HubSpot accounts in one test."""

import pytest

from spokes.testing import Spokes

OTHER = 60112233


@pytest.fixture
def spokes_portals() -> tuple[int, ...]:
    return (OTHER,)


async def test_events_run_in_the_account_of_their_record(spokes: Spokes) -> None:
    other = spokes.portals[OTHER]
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    bob = await other.contacts.create(phone="(202) 555-0144")
    for record in (bob, ada):
        run = await spokes.deliver("contact.creation", record)
        assert (run.outcome, run.events[0]["portalId"]) == ("processed", record.hubspot.portal_id)
    assert (ada["phone"], bob["phone"]) == ("+12025550143", "+12025550144")
    assert [len(each.contacts) for each in spokes.portals.values()] == [1, 1]


async def test_idempotence_is_checked_in_every_account(spokes: Spokes) -> None:
    bob = await spokes.portals[OTHER].contacts.create(phone="(202) 555-0144")
    await spokes.assert_idempotent("contact.creation", bob)
    assert bob["phone"] == "+12025550144"


async def test_scope_is_missing_in_every_account(spokes: Spokes) -> None:
    await spokes.missing_scope("crm.objects.contacts.write")
    for account in spokes.portals.values():
        run = await spokes.deliver("contact.creation", await account.contacts.create(phone="(202) 555-0144"))
        assert (run.outcome, run.reason) == ("dead", "not_permitted")


async def test_scope_is_missing_in_one_account(spokes: Spokes) -> None:
    await spokes.missing_scope("crm.objects.contacts.write", portal_id=OTHER)
    outcomes = [
        (await spokes.deliver("contact.creation", await account.contacts.create(phone="(202) 555-0144"))).outcome
        for account in spokes.portals.values()
    ]
    assert outcomes == ["processed", "dead"]


async def test_failures_of_one_account_leave_the_other_alone(spokes: Spokes) -> None:
    await spokes.outage(calls=1, portal_id=OTHER)
    await spokes.rate_limited(portal_id=OTHER)
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    bob = await spokes.portals[OTHER].contacts.create(phone="(202) 555-0144")
    run = await spokes.deliver("contact.creation", ada)
    assert {request.status for request in run.requests} == {200}
    run = await spokes.deliver("contact.creation", bob)
    assert [run.outcome, *(request.status for request in run.requests)][:3] == ["processed", 503, 429]


async def test_unknown_account_is_refused(spokes: Spokes) -> None:
    for fail in (spokes.outage, spokes.rate_limited, spokes.missing_scope):
        with pytest.raises(ValueError, match="no account 7: the fixture spokes_portals"):
            await fail(portal_id=7)
