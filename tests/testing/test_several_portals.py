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
