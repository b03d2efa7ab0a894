"""spokes.queue.unreadable_jobs: what no worker can read is quarantined, and its events run after a fix."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from spokes.core.clock import now_ms
from spokes.core.delivery import Delivery, Entry, decode, encode, job_payload, new_delivery_id, unread_argument
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.event_keys import EventKeys
from spokes.intake.event_source import EventSource
from spokes.intake.quarantine_replay import QuarantineReplay, ReplayCounts
from spokes.queue.quarantine import NewContent, Quarantine, QuarantinedContent
from spokes.queue.unreadable_jobs import adopt_unreadable_jobs, quarantine_entries, quarantine_job
from tests.support.command_line import spokes
from tests.support.events import event, recorded

PORTAL = 50112233
GOOD = Entry("a" * 20, 3, event(1))
REPLAYED = GOOD._replace(intake="replay")
BAD = Entry("b" * 20, 2, event(2, objectId={"canary": 1}))
DELIVERY = Delivery(f"{PORTAL}-1-1", PORTAL, 1, (GOOD, BAD))


@pytest.fixture
def quarantine(redis: Redis) -> Quarantine:
    return Quarantine(redis, Vault(["key"]), ttl_s=3600)


async def listed(quarantine: Quarantine) -> list[QuarantinedContent]:
    return [content for portal in await quarantine.portals() async for content in quarantine.list(portal)]


async def replay(redis: Redis, quarantine: Quarantine, *registrations: str) -> ReplayCounts:
    admission = Admission(redis, dedupe_ttl_s=3600)
    source = EventSource(
        "replay", admission, quarantine, allow_list=AllowList(registrations), keys=EventKeys(b"secret"), portal_ids=()
    )
    replays = QuarantineReplay(redis, quarantine, source)
    counts = await replays.replay(await listed(quarantine), actor="ada", reason="fixed")
    await admission.close()
    return counts


async def queued(redis: Redis) -> list[Delivery]:
    jobs = [decode(await redis.get(JOB_KEY_PREFIX + id_.decode())) for id_ in await redis.zrange(JOB_QUEUE, 0, -1)]
    return [Delivery.from_job(job["a"][0]) for job in jobs]


async def test_bad_entry_is_kept_under_its_event_key_and_shown_by_types(redis: Redis, quarantine: Quarantine) -> None:
    await quarantine_entries(redis, quarantine, DELIVERY, [BAD])
    (content,) = await listed(quarantine)
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert (content.key, content.portal_id, record.event_key) == (BAD.key, PORTAL, BAD.key)
    assert quarantine.field_types(content)["objectId"] == "object"
    assert b"canary" not in (await redis.get(keys.quarantined_content(PORTAL, BAD.key)) or b"")


async def test_entry_that_is_still_unreadable_stays(redis: Redis, quarantine: Quarantine) -> None:
    await quarantine_entries(redis, quarantine, DELIVERY, [BAD])
    assert await replay(redis, quarantine) == ReplayCounts(admitted=0, unreadable=1)
    assert (len(await listed(quarantine)), await redis.zcard(JOB_QUEUE)) == (1, 0)


async def test_entry_that_is_readable_after_a_fix_runs_again_though_its_key_is_known(
    redis: Redis, quarantine: Quarantine
) -> None:
    await quarantine_entries(redis, quarantine, DELIVERY, [GOOD])
    assert await replay(redis, quarantine) == ReplayCounts(admitted=1, unreadable=0)
    (delivery,) = await queued(redis)
    assert (delivery.portal_id, delivery.entries, await listed(quarantine)) == (PORTAL, (REPLAYED,), [])


@pytest.mark.parametrize("is_read", [True, False])
async def test_events_of_a_job_run_again_except_those_that_are_settled(
    redis: Redis, quarantine: Quarantine, *, is_read: bool
) -> None:
    argument: Any = DELIVERY.to_job() if is_read else unread_argument(job_payload(DELIVERY, 1))
    await quarantine_job(redis, quarantine, DELIVERY.id, argument)
    await redis.sadd(keys.settled_events(PORTAL, DELIVERY.id), BAD.key)
    assert await replay(redis, quarantine) == ReplayCounts(admitted=1, unreadable=0)
    (delivery,) = await queued(redis)
    assert (delivery.entries, delivery.id == DELIVERY.id) == ((REPLAYED,), False)


@pytest.mark.parametrize(
    "argument",
    [None, "text", [1], {"id": 1}, {"unreadable": 7}, {"unreadable": "x"}, {"a": [7]}, {"unreadable": "gARwaQ=="}],
)
async def test_foreign_job_is_kept_and_stays_when_replayed(redis: Redis, quarantine: Quarantine, argument: Any) -> None:
    await quarantine_job(redis, quarantine, "foreign", argument)
    await quarantine_job(redis, quarantine, "foreign", argument)
    (content,) = await listed(quarantine)
    assert (content.portal_id, content.is_delivery) == (0, True)
    assert await replay(redis, quarantine) == ReplayCounts(admitted=0, unreadable=1)


async def test_jobs_that_earlier_versions_kept_are_moved_into_quarantine(redis: Redis, quarantine: Quarantine) -> None:
    at = now_ms() - 600_000
    payload = b64encode(encode({"a": [DELIVERY.to_job()]})).decode()
    await redis.lpush(keys.UNREADABLE_JOBS, encode({"id": DELIVERY.id, "at": at, "payload": payload}), b"\xff")  # type: ignore[misc]  # redis-py types one class for sync and async
    await adopt_unreadable_jobs(redis, quarantine)
    (content,) = await listed(quarantine)
    assert (content.at, content.portal_id) == (at, PORTAL)
    assert 2900 < await redis.ttl(keys.quarantined_content(PORTAL, content.key)) <= 3000
    assert await replay(redis, quarantine) == ReplayCounts(admitted=1, unreadable=0)


async def test_stored_delivery_is_listed_and_replayed_by_the_commands(
    redis: Redis, environ: dict[str, str], settings: Settings
) -> None:
    quarantine = Quarantine.from_settings(redis, settings)
    await quarantine_entries(redis, quarantine, Delivery(new_delivery_id(PORTAL), PORTAL, 1, ()), [GOOD, BAD])
    shown = [
        orjson.loads(line) for line in spokes(environ, "dead", "list", "--quarantined", "--json").stdout.splitlines()
    ]
    assert {line["key"]: line["reason"] for line in shown} == dict.fromkeys((GOOD.key, BAD.key), "unreadable_delivery")
    done = spokes(environ, "dead", "replay", "--quarantined", "--reason", "fixed", "--yes", "--json").stdout
    assert orjson.loads(done) == {"done": "replay", "count": 1, "unreadable": 1}
    assert [delivery.entries for delivery in await queued(redis)] == [(REPLAYED,)]


async def test_entry_of_the_journal_that_this_version_knows_runs_again(redis: Redis, quarantine: Quarantine) -> None:
    entry = {
        "type": "crmObject", "portalId": PORTAL, "occurredAt": "2026-09-10T11:58:01.002Z", "action": "CREATE",
        "objectTypeId": "0-1", "objectId": 5, "propertyChanges": {},
    }  # fmt: skip
    page = orjson.dumps({"offset": "o", "journalEvents": [{**entry, "objectId": 6}]})
    contents = [
        NewContent(PORTAL, "aa" * 10, "unrecognised_entry", orjson.dumps(entry)),
        NewContent(PORTAL, "bb" * 10, "unreadable_page", page),
        NewContent(PORTAL, "cc" * 10, "unrecognised_entry", b'{"type":"listMembership"}'),
    ]
    await quarantine.keep(contents, delivery_id="", alert=Alert.ELEMENTS_QUARANTINED)
    assert await replay(redis, quarantine, "contact.creation") == ReplayCounts(admitted=2, unreadable=1)
    entries = [entry for delivery in await queued(redis) for entry in delivery.entries]
    assert sorted((entry.event.object_id, entry.intake) for entry in entries) == [("5", "replay"), ("6", "replay")]
