"""spokes.intake.event_source: events of other intakes take the way of the receiver, in a real Valkey."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.audit.records import Action, Outcome
from spokes.core.errors import QueueUnavailable
from spokes.core.settings import Settings
from spokes.intake.event_source import EventSource
from spokes.queue.quarantine import Quarantine
from tests.intake.test_admission import client_of, queued, queued_imports, queued_keys
from tests.support.events import event, recorded

REGISTRATIONS = ("contact.creation",)


@pytest.fixture
async def source(redis: Redis, settings: Settings) -> AsyncIterator[EventSource]:
    source = EventSource.from_settings("backfill", redis, settings, REGISTRATIONS)
    yield source
    await source.close()


async def test_registered_events_are_queued_with_their_intake(redis: Redis, source: EventSource) -> None:
    counts = await source.admit([event(1), event(2, subscriptionType="deal.creation")])
    assert (counts["admitted"], counts["ignored"]) == (1, 1)
    assert [entry.intake for delivery in await queued(redis) for entry in delivery.entries] == ["backfill"]


async def test_event_that_was_pushed_before_is_known(redis: Redis, settings: Settings, source: EventSource) -> None:
    push = EventSource.from_settings("push", redis, settings, REGISTRATIONS)
    await push.admit([event(1)])
    await push.close()
    assert (await source.admit([event(1)]))["duplicate"] == 1
    assert len(await queued_keys(redis)) == 1


async def test_audit_names_intake_and_origin(redis: Redis, source: EventSource) -> None:
    await source.admit([event(1)], origin="run-7")
    await source.admit([event(1)], origin="run-7")
    heads = [record.detail for record in await recorded(redis) if record.action is Action.DELIVERY_RECEIVED]
    (duplicate,) = [record for record in await recorded(redis) if record.outcome is Outcome.DUPLICATE]
    assert [(head["intake"], head["origin"]) for head in heads] == [("backfill", "run-7")] * len(heads)
    assert duplicate.detail["intake"] == "backfill"


async def test_source_decides_the_class_where_no_user_waits(redis: Redis, source: EventSource) -> None:
    await source.admit([event(1)], priority="import")
    assert len(await queued_imports(redis)) == 1


async def test_invalid_elements_are_kept_in_quarantine(redis: Redis, settings: Settings, source: EventSource) -> None:
    counts = await source.admit([event(1), event(2, objectId="x")])
    assert (counts["admitted"], counts["quarantined"]) == (1, 1)
    quarantine = Quarantine.from_settings(redis, settings)
    (portal,) = await quarantine.portals()
    assert [content.reason async for content in quarantine.list(portal)] == ["object_id"]


async def test_nothing_is_admitted_from_nothing(redis: Redis, source: EventSource) -> None:
    assert (await source.admit([]))["admitted"] == 0
    assert await recorded(redis) == []


async def test_unreachable_redis_is_reported(settings: Settings) -> None:
    source = EventSource.from_settings("journal", client_of("redis://127.0.0.1:1"), settings, REGISTRATIONS)
    with pytest.raises(QueueUnavailable):
        await source.admit([event(1)])
