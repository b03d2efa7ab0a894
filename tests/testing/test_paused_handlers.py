"""The test kit pauses one handler: its events wait, those of others run."""

import pytest

from spokes import Event, RetryLater, Router, Tools, uses
from spokes.testing import Spokes

OTHER = 60112233
router = Router()


@router.register("contact.creation")
@uses(may=("contacts.update",))
async def greet(event: Event, tools: Tools) -> None:
    await tools.crm.contacts.update(event.object_id, jobtitle="greeted")


@router.register("contact.creation")
async def retry_once(event: Event, tools: Tools) -> None:
    if tools.attempt == 1:
        raise RetryLater("once more", after_s=60)


@pytest.fixture
def spokes_handlers() -> Router:
    return router


@pytest.fixture
def spokes_portals() -> tuple[int, ...]:
    return (OTHER,)


GREET, RETRIED = f"{greet.__module__.rpartition('.')[2]}.greet", f"{greet.__module__.rpartition('.')[2]}.retry_once"


async def test_event_of_a_paused_handler_waits_until_it_is_resumed(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    await spokes.pause_handler(GREET)
    run = await spokes.deliver("contact.creation", ada)
    assert run.outcomes == {GREET: "parked", RETRIED: "processed"}
    assert run.reasons[GREET] == "handler_paused"
    run = await spokes.advance("3 days")
    assert (run.attempts, ada["jobtitle"]) == (0, "")
    run = await spokes.resume_handler(GREET)
    assert (run.outcome, run.attempts, ada["jobtitle"]) == ("processed", 1, "greeted")


async def test_handler_is_paused_in_one_account(spokes: Spokes) -> None:
    await spokes.pause_handler(GREET, portal_id=OTHER)
    outcomes = []
    for account in spokes.portals.values():
        run = await spokes.deliver("contact.creation", await account.contacts.create(email="ada@example.com"))
        outcomes.append(run.outcomes[GREET])
    assert outcomes == ["processed", "parked"]
    assert (await spokes.resume_handler(GREET)).outcome == "processed"


async def test_pause_ends_with_its_test(spokes: Spokes) -> None:
    run = await spokes.deliver("contact.creation", await spokes.hubspot.contacts.create(email="ada@example.com"))
    assert run.outcomes[GREET] == "processed"


async def test_pause_of_an_unknown_handler_is_refused(spokes: Spokes) -> None:
    with pytest.raises(ValueError, match=f"no handler 'greet'; the handlers are {GREET}, {RETRIED}"):
        await spokes.pause_handler("greet")
    with pytest.raises(ValueError, match=f"{GREET}' is not paused"):
        await spokes.resume_handler(GREET)
    with pytest.raises(ValueError, match="no account 7"):
        await spokes.pause_handler(GREET, portal_id=7)
