"""The test kit with the default handlers."""

from spokes.testing import Spokes


async def test_phone_is_normalised(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143", country="US")
    run = await spokes.deliver("contact.propertyChange", ada, property="phone")
    assert run.outcome == "processed"
    assert run.outcomes["contacts.keep_reachable"] == "processed"
    assert run.writes == [("contacts", ada.id, {"phone": "+12025550143"})]
    assert spokes.hubspot.contacts[ada.id]["phone"] == "+12025550143"


async def test_run_names_calls_requests_and_attempts(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143", country="US")
    run = await spokes.deliver("contact.creation", ada)
    assert run.calls == ["contacts.get", "contacts.update"]
    assert [request.path.rpartition("contacts")[2] for request in run.requests] == ["/batch/read", "/batch/update"]
    assert (run.attempts, run.error) == (1, None)


async def test_event_without_a_handler_is_ignored(spokes: Spokes) -> None:
    product = await spokes.hubspot.products.create(name="Chair")
    run = await spokes.deliver("product.creation", product)
    assert run.outcome == "ignored"


async def test_event_that_is_delivered_twice_is_a_duplicate(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="(202) 555-0143")
    run = await spokes.deliver("contact.creation", ada)
    again = await spokes.redeliver(run)
    assert (again.outcome, again.attempts, again.writes) == ("duplicate", 0, [])


async def test_records_of_an_earlier_test_are_gone(spokes: Spokes) -> None:
    assert len(spokes.hubspot.contacts) == 0
