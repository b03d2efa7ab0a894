"""workers.delivery.once, on a real Valkey: an effect happens once per object."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable, RetryLater
from spokes.core.events import Event
from tests.support.events import event
from tests.support.waiting import until
from workers.delivery.once import OnceGuard

FIRST, SECOND = (Event(event(objectId=1, occurredAt=at)) for at in (1, 2))  # two events of one object


class Notes:
    """The notes that exist in HubSpot."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def create(self) -> str:
        self.ids.append(str(len(self.ids) + 100))
        return self.ids[-1]

    async def create_and_fail(self) -> str:
        await self.create()
        raise ConnectionError

    async def find(self) -> str | None:
        return self.ids[-1] if self.ids else None


async def test_effect_happens_once_for_an_object(redis: Redis) -> None:
    notes, first, second = Notes(), OnceGuard(redis, FIRST), OnceGuard(redis, SECOND)
    assert (await first("note", notes.create), await second("note", notes.create)) == ("100", "100")
    assert notes.ids == ["100"]


async def test_interrupted_effect_is_found_and_not_repeated(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)
    with pytest.raises(ConnectionError):
        await once("note", notes.create_and_fail, find=notes.find)
    await redis.delete(once._in_flight_key("note"))  # the call would have ended by now
    assert await once("note", notes.create, find=notes.find) == "100"
    assert notes.ids == ["100"]


async def test_effect_that_may_be_in_flight_is_searched_later(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)
    with pytest.raises(ConnectionError):
        await once("note", notes.create_and_fail, find=notes.find)
    with pytest.raises(RetryLater) as later:
        await once("note", notes.create, find=notes.find)
    assert 0 < (later.value.after_s or 0) <= 20


async def test_effect_that_hubspot_refused_is_not_waited_for(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)

    async def fail() -> str:
        raise CRMUnavailable(status=500)

    with pytest.raises(CRMUnavailable):
        await once("note", fail, find=notes.find)
    assert await once("note", notes.create, find=notes.find) == "100"


@pytest.mark.parametrize("status", [0, 200, 408, 502, 503, 504, 524])
async def test_effect_that_a_gateway_gave_up_is_searched_later(redis: Redis, status: int) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)

    async def fail() -> str:
        raise CRMUnavailable(status=status)

    with pytest.raises(CRMUnavailable):
        await once("note", fail, find=notes.find)
    with pytest.raises(RetryLater):
        await once("note", notes.create, find=notes.find)


async def test_effect_asked_for_several_times_at_once_happens_once(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)

    async def create() -> str:
        await asyncio.sleep(0.01)
        return await notes.create()

    assert await asyncio.gather(*(once("note", create) for _ in range(3))) == ["100", "100", "100"]
    assert notes.ids == ["100"]


async def test_effect_stays_in_flight_while_its_call_waits(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.delivery.once._RENEWED_S", 0.01)
    once = OnceGuard(redis, FIRST)

    async def create_late() -> str:
        await redis.delete(once._in_flight_key("note"))  # as if it had expired
        await until(lambda: redis.exists(once._in_flight_key("note")))
        return "100"

    assert await once("note", create_late) == "100"


async def test_effect_that_never_happened_is_created_later(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)

    async def fail() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await once("note", fail, find=notes.find)
    await redis.delete(once._in_flight_key("note"))  # the call would have ended by now
    assert await once("note", notes.create, find=notes.find) == "100"


async def test_effects_differ_by_name_and_object(redis: Redis) -> None:
    notes = Notes()
    await OnceGuard(redis, FIRST)("note", notes.create)
    await OnceGuard(redis, FIRST)("task", notes.create)
    await OnceGuard(redis, Event(event(2)))("note", notes.create)
    assert len(notes.ids) == 3


async def test_number_is_kept_as_text(redis: Redis) -> None:
    async def create() -> int:
        return 7

    once = OnceGuard(redis, FIRST)
    assert [await once("order", create) for _ in range(2)] == ["7", "7"]  # type: ignore[arg-type]  # on purpose


async def test_effect_without_an_id_is_explained_and_searched_for(redis: Redis) -> None:
    notes, once = Notes(), OnceGuard(redis, FIRST)

    async def create() -> None:
        await notes.create()

    with pytest.raises(TypeError, match="create and find return an id as text, and this one returned NoneType"):
        await once("note", create)  # type: ignore[arg-type]  # on purpose
    await redis.delete(once._in_flight_key("note"))
    assert await once("note", notes.create, find=notes.find) == "100"


@pytest.mark.parametrize("name", ["", None, 7])
async def test_effect_needs_a_name(redis: Redis, name: object) -> None:
    notes = Notes()
    with pytest.raises(TypeError, match="needs a name for the effect"):
        await OnceGuard(redis, FIRST)(name, notes.create)  # type: ignore[arg-type]  # on purpose
    assert notes.ids == []
