"""spokes.intake.arrivals: what the web process counts of what HubSpot sends."""

import orjson
from redis.asyncio import Redis

from spokes.core.events import Event, event_name
from spokes.intake.allow_list import AllowList
from spokes.intake.arrivals import DAY_MS, HOUR_MS, Arrivals, StoredArrivals, read_arrivals
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from tests.support.events import event

NOW = 20_850 * DAY_MS + 5 * HOUR_MS
TODAY = NOW // DAY_MS


async def stored(redis: Redis, days: int = 1) -> StoredArrivals:
    return await read_arrivals(redis, range(TODAY - days + 1, TODAY + 1), recent_days=1)


def fast_path(arrivals: Arrivals, *registrations: str) -> FastPath:
    return FastPath(AllowList(registrations), EventKeys(b"secret"), (), arrivals)


async def test_events_are_stored_by_type_property_and_dialect(redis: Redis) -> None:
    arrivals = Arrivals()
    generic = {"subscriptionType": "object.propertyChange", "objectTypeId": "0-3", "propertyName": "amount"}
    batch = [event(1), event(2, **generic, propertyValue="1"), event(3, subscriptionType="deal.deletion")]
    fast_path(arrivals, "contact.creation").classify(orjson.dumps(batch), NOW)
    await arrivals.flush(redis, NOW)
    found = await stored(redis)
    names = {"contact.creation", "deal.propertyChange:amount generic", "deal.deletion"}
    assert found.at == {name: [NOW] for name in names}
    assert found.ignored == {"deal.propertyChange:amount generic": 1, "deal.deletion": 1}
    assert found.hours == {NOW // HOUR_MS}


async def test_counts_of_several_processes_and_flushes_add_up(redis: Redis) -> None:
    for _ in range(2):
        arrivals = Arrivals()
        classify = fast_path(arrivals).classify
        for minute in range(3):
            classify(orjson.dumps([event(minute), event(minute + 10)]), NOW + minute)
            await arrivals.flush(redis, NOW)
    assert (await stored(redis)).ignored == {"contact.creation": 12}
    assert (await stored(redis)).at == {"contact.creation": [NOW + 2]}


async def test_body_that_the_fast_path_gives_up_is_not_counted_there(redis: Redis) -> None:
    arrivals = Arrivals()
    unusual = event(2, subscriptionType="contact.merge", primaryObjectId=1, mergedObjectIds=[2])
    assert fast_path(arrivals).classify(orjson.dumps([event(1), unusual]), NOW) is None
    await arrivals.flush(redis, NOW)
    assert (await stored(redis)).ignored == {}


async def test_text_that_is_no_name_is_not_stored(redis: Redis) -> None:
    arrivals = Arrivals()
    personal = event(1, subscriptionType="contact.propertyChange", propertyName="Ann Example <ann@example.com>")
    fast_path(arrivals).classify(orjson.dumps([personal]), NOW)
    await arrivals.flush(redis, NOW)
    assert b"example" not in b" ".join(await redis.hkeys(f"spokes:arrivals:{TODAY}")).lower()  # type: ignore[misc]
    assert event_name(Event(personal)) == ""


async def test_failed_flush_loses_no_count(redis: Redis) -> None:
    arrivals = Arrivals()
    fast_path(arrivals).classify(orjson.dumps([event(1)]), NOW)
    arrivals.count_unserved(7, 3)
    key = f"spokes:arrivals:{TODAY}"
    await redis.set(key, "another type")
    try:
        await arrivals.flush(redis, NOW)
    except Exception:  # noqa: BLE001 - as the background task does, which runs again
        await redis.delete(key)
    await arrivals.flush(redis, NOW)
    await arrivals.flush(redis, NOW)
    found = await stored(redis)
    assert (found.ignored, found.unserved) == ({"contact.creation": 1}, {7: 3})


async def test_days_expire_and_only_the_last_ones_are_counted(redis: Redis) -> None:
    for day in (2, 1, 0):
        arrivals = Arrivals()
        fast_path(arrivals).classify(orjson.dumps([event(1)]), NOW - day * DAY_MS)
        await arrivals.flush(redis, NOW - day * DAY_MS)
    found = await stored(redis, days=2)
    assert (len(found.at["contact.creation"]), found.ignored["contact.creation"], len(found.hours)) == (2, 1, 2)
    assert 30 * 86_400 < await redis.ttl(f"spokes:arrivals:{TODAY}") <= 35 * 86_400


async def test_unreadable_field_costs_itself_alone(redis: Redis) -> None:
    fields = {"at contact.creation": "soon", b"\xff 1": "1", "hour x": "1", "ignored deal.merge": "2"}
    await redis.hset(f"spokes:arrivals:{TODAY}", mapping=fields)  # type: ignore[misc]
    assert (await stored(redis)).ignored == {"deal.merge": 2}


async def test_events_of_the_journal_say_nothing_about_dialects_and_the_target(redis: Redis) -> None:
    arrivals = Arrivals()
    generic = Event(event(1, subscriptionType="object.creation", objectTypeId="0-1"))
    arrivals.note_journal([generic, generic], NOW, allow_list=AllowList(["contact.creation"]), portal_ids=())
    await arrivals.flush(redis, NOW)
    found = await stored(redis)
    assert (found.at, found.ignored, found.hours) == ({"contact.creation journal": [NOW]}, {}, set())


async def test_events_of_the_journal_that_nothing_registers_for_are_counted_as_ignored(redis: Redis) -> None:
    arrivals = Arrivals()
    changes = [
        Event(event(n, subscriptionType="object.propertyChange", objectTypeId="0-3", propertyName=name))
        for n, name in enumerate(("amount", "dealname", "dealname"))
    ]
    allow_list = AllowList(["deal.propertyChange:amount"])
    for _ in range(2):
        arrivals.note_journal(changes, NOW, allow_list=allow_list, portal_ids=())
        await arrivals.flush(redis, NOW)
    assert (await stored(redis)).ignored == {"deal.propertyChange:dealname journal": 4}


async def test_events_of_the_journal_from_portals_that_are_not_served_are_counted_by_portal(redis: Redis) -> None:
    arrivals, events = Arrivals(), [Event(event(1, portalId=7)), Event(event(2, portalId=8))]
    arrivals.note_journal(events, NOW, allow_list=AllowList([]), portal_ids=(7,))
    await arrivals.flush(redis, NOW)
    found = await stored(redis)
    assert (found.unserved, found.ignored) == ({8: 1}, {"contact.creation journal": 1})
