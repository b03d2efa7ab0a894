"""spokes.queue.registration_times: when a worker first had each registration, and whether an event matched it."""

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis.keys import REGISTRATIONS
from spokes.queue.registration_times import RegistrationTimes, registration_times
from spokes.routing import Router
from spokes.tools import Tools
from tests.support.events import event


async def handler(event: Event, tools: Tools) -> None:
    """Do nothing."""


async def waiting(redis: Redis) -> dict[str, int]:
    """Return the registrations that no event has matched, with the time at which a worker first had each."""
    times = await registration_times(redis)
    return {name: time.registered_at for name, time in times.items() if time.matched_at is None}


def router_for(*event_types: str) -> Router:
    router = Router()
    for event_type in event_types:
        router.register(event_type)(handler)
    return router


async def test_matched_registration_is_no_longer_listed(redis: Redis) -> None:
    router = router_for("contact.creation", "contact.deletion")
    times = RegistrationTimes(redis, router)
    await times.record()
    assert (await waiting(redis)).keys() == {"contact.creation", "contact.deletion"}
    router.match(Event(event()))
    await times.close()
    assert (await waiting(redis)).keys() == {"contact.deletion"}


async def test_first_times_stay_when_workers_start_again(redis: Redis) -> None:
    for _ in range(2):
        await RegistrationTimes(redis, router_for("contact.creation")).record()
        await redis.hset(REGISTRATIONS, "registered contact.creation", 1)  # type: ignore[misc]
    await RegistrationTimes(redis, router_for("contact.creation")).record()
    assert await waiting(redis) == {"contact.creation": 1}


async def test_registration_that_was_removed_starts_anew(redis: Redis) -> None:
    router = router_for("contact.creation", "contact.deletion")
    router.match(Event(event()))
    await RegistrationTimes(redis, router).record()
    await RegistrationTimes(redis, router_for("contact.deletion")).record()
    assert await redis.hkeys(REGISTRATIONS) == [b"registered contact.deletion"]  # type: ignore[misc]
    await RegistrationTimes(redis, router_for("contact.creation", "contact.deletion")).record()
    assert (await waiting(redis)).keys() == {"contact.creation", "contact.deletion"}


async def test_running_worker_leaves_registrations_of_a_newer_one(redis: Redis) -> None:
    times = RegistrationTimes(redis, router_for("contact.creation"))
    await times.record()
    await RegistrationTimes(redis, router_for("contact.creation", "contact.deletion")).record()
    await times.record()
    assert (await waiting(redis)).keys() == {"contact.creation", "contact.deletion"}


async def test_unreadable_time_costs_itself_alone(redis: Redis) -> None:
    await RegistrationTimes(redis, router_for("contact.creation")).record()
    await redis.hset(REGISTRATIONS, mapping={"registered contact.merge": "soon", b"\xff": "1"})  # type: ignore[misc]
    assert (await waiting(redis)).keys() == {"contact.creation"}
