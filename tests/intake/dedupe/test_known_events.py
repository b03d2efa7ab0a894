"""spokes.intake.dedupe.known_events: what was admitted is known, without a trace of the question."""

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.events import Event, RawEvent
from spokes.core.masking import derive_key
from spokes.core.settings import Settings
from spokes.intake.dedupe.known_events import known_keys
from spokes.intake.event_keys import EventKeys
from spokes.intake.event_source import EventSource
from tests.support.deployment import KEY

KEYS = EventKeys(derive_key(KEY, "event keys"))
COUNT = 1_500  # marks of an hour in eight sets


def _creation(number: int, at: int) -> RawEvent:
    return {
        "eventId": number, "subscriptionId": 2, "portalId": 7, "appId": 3, "occurredAt": at,
        "subscriptionType": "contact.creation", "attemptNumber": 0, "objectId": number, "changeSource": "CRM",
    }  # fmt: skip


async def test_exactly_the_admitted_events_are_known(redis: Redis, settings: Settings) -> None:
    now = clock.now_ms()
    times = (now - 3_600_000, now)
    admitted = [_creation(number, times[number % 2]) for number in range(1, COUNT + 1)]
    source = EventSource.from_settings("journal", redis, settings, ["contact.creation"])
    for start in range(0, COUNT, 100):
        await source.admit(admitted[start : start + 100])
    await source.close()
    others = [_creation(number, now) for number in range(COUNT + 1, 2 * COUNT)]
    before = await redis.dbsize()
    pairs = [(KEYS(Event(raw)), raw["occurredAt"]) for raw in (*admitted, *others)]
    known = set[str]()
    for start in range(0, len(pairs), 300):
        known |= await known_keys(redis, 7, pairs[start : start + 300])
    assert known == {key for key, _ in pairs[:COUNT]}
    assert (await known_keys(redis, 8, pairs[:10]), await redis.dbsize()) == (set(), before)
