"""spokes.http: the answers of hosts in handlers' tests."""

import pytest

from spokes import Event, Host, Router, Tools, uses
from spokes.testing import NoResponse, Spokes

ERP = "https://erp.example.com"
router = Router()


@router.register("contact.creation")
@uses(calls=(Host(ERP, rate="1/s"),))
async def call_twice(event: Event, tools: Tools) -> None:
    await tools.http.get(f"{ERP}/stock", params={"item": "7"})
    await tools.http.put(f"{ERP}/stock", name="stock", json={"item": 7})


@router.register("company.creation")
@uses(calls=(ERP,))
async def call_with_keys_of_chance(event: Event, tools: Tools) -> None:
    await tools.http.post(ERP, name=f"order {id(object())} {tools.attempt} {len(CHANCE)}")
    CHANCE.append(1)


CHANCE: list[int] = []


@pytest.fixture
def spokes_handlers() -> Router:
    return router


async def test_host_that_no_response_names_ends_the_event_with_a_sentence(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.reason) == ("dead", "handler_error:NoResponse")
    assert isinstance(run.error, NoResponse)
    assert "spokes.http.respond('https://erp.example.com')" in str(run.error)


async def test_calls_are_recorded_and_a_rate_takes_no_time(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    spokes.http.respond(ERP, json={"count": 3}, method="GET")
    run = await spokes.deliver("contact.creation", ada)
    assert (run.outcome, run.calls) == ("processed", ["http.get", "http.put"])
    first, second = run.http_calls
    assert (first.method, first.url, first.idempotency_key, first.status) == ("GET", f"{ERP}/stock?item=7", "", 200)
    assert (second.method, second.json(), bool(second.idempotency_key)) == ("PUT", {"item": 7}, True)


async def test_counted_responses_come_first_and_the_newest_lasting_one_stays(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    spokes.http.respond(ERP, status=404)
    spokes.http.respond(ERP)
    spokes.http.respond(ERP, status=0, times=1)
    spokes.http.respond(ERP, status=429, headers={"Retry-After": "60"}, times=1)
    run = await spokes.deliver("contact.creation", ada)
    assert [call.status for call in run.http_calls] == [0, 429, 200, 200]


async def test_outage_longer_than_the_schedule_is_waited_out(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    spokes.http.respond(ERP, status=503, times=15)
    run = await spokes.deliver("contact.creation", ada)
    assert run.outcome == "processed"


async def test_effect_with_another_key_after_a_crash_is_found(spokes: Spokes) -> None:
    acme = await spokes.hubspot.companies.create(name="Acme")
    spokes.http.respond(ERP)
    with pytest.raises(AssertionError, match=r"POST https://erp\.example\.com"):
        await spokes.assert_idempotent("company.creation", acme)
