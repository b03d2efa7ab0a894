"""Erasing a person in the simulator, a real Valkey and both databases, and searching all of them afterwards."""

from base64 import b64decode
from collections.abc import AsyncIterator

import orjson
import pytest
from arq.constants import retry_key_prefix
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection
from spokes.audit.stream import append
from spokes.audit.verify import verify
from spokes.core import clock
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry, decode, job_payload
from spokes.core.errors import ErasureIncomplete, ObjectNotFound, UnreadableDelivery
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.redis_data import DataSubject
from spokes.privacy.redis_purge import purge_object, purge_subject
from spokes.privacy.requests import ErasureRequest, Law, RequestState, deadline, load_requests
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.unreadable_jobs import store_unreadable
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.deployment import KEY, TOKEN
from tests.support.events import event, recorded

PORTAL = 50112233
EMAIL = "ada.canary@example.com"
OTHER = 318845999999


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))) as simulator:
        yield simulator


@pytest.fixture
def settings(environ: dict[str, str], hubspot: Simulator, database_url: str) -> Settings:
    return Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": database_url})


@pytest.fixture
async def erasures(settings: Settings, redis: Redis, engine: AsyncEngine) -> AsyncIterator[Erasures]:
    await schema.upgrade(engine)
    crm = await CRM.open(settings, redis)
    yield Erasures(settings, redis, engine, crm, actor="ada the operator")
    await crm.close()


def change(object_id: str | int, name: str, value: str, number: int = 1) -> dict[str, object]:
    told = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return event(number, objectId=int(object_id), **told)


async def queue(redis: Redis, delivery_id: str, *elements: dict[str, object]) -> None:
    entries = tuple(Entry(f"{number:020x}", 0, raw) for number, raw in enumerate(elements, start=1))
    delivery = Delivery(delivery_id, PORTAL, 1, entries)
    far = clock.now_ms() + 3_600_000
    await redis.set(JOB_KEY_PREFIX + delivery_id, job_payload(delivery, far))
    await redis.zadd(JOB_QUEUE, {delivery_id: far})


async def bury(redis: Redis, key: str, raw: dict[str, object]) -> None:
    letter = DeadLetter(PORTAL, f"{PORTAL}-0-0", Entry(key, 1, raw), "not_permitted", "contacts.keep_reachable", 1)
    await redis.set(keys.dead_letter(PORTAL, key), letter.to_bytes())
    await redis.zadd(keys.dead_letters_by_time(PORTAL), {key: 1})


async def plant(redis: Redis, hubspot: Simulator, engine: AsyncEngine) -> tuple[str, str]:
    """Put a person everywhere: returns the id it lives under, and one that was merged into it."""
    contacts = hubspot.crm.types.resolve("contacts")
    loser = hubspot.crm.create(contacts, {"email": "old." + EMAIL, "firstname": "Adacanary"}, USER)
    winner = hubspot.crm.create(contacts, {"email": EMAIL}, USER)
    merged = hubspot.crm.merge(winner, loser, USER)
    await queue(redis, f"{PORTAL}-1-1", change(merged.id, "email", EMAIL), change(OTHER, "email", "x@y.example"))
    await queue(redis, f"{PORTAL}-1-2", change(loser.id, "firstname", "Adacanary"))
    await bury(redis, "ee" * 10, change(winner.id, "email", EMAIL))
    await bury(redis, "ff" * 10, change(OTHER, "email", "x@y.example"))
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", merged.id), "email", "1")
    await redis.hset(keys.once_effects(PORTAL, "contact", loser.id), "note", "77")
    await store_unreadable(redis, f"{PORTAL}-1-3", {"from": "a newer version", "objectId": int(loser.id)})
    await store_unreadable(redis, f"{PORTAL}-1-4", {"from": "a newer version", "objectId": OTHER})
    async with redis.pipeline() as pipeline:
        for number, object_id in enumerate((loser.id, winner.id, merged.id, str(OTHER))):
            outcome = Outcome.PROCESSED
            fields = {"object_type": "contact", "object_id": object_id, "event_key": f"{number:020x}"}
            append(pipeline, AuditRecord(action=Action.EVENT, outcome=outcome, portal_id=PORTAL, **fields))
        await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    return merged.id, loser.id


def unpacked(value: bytes) -> str:
    """A value as it can be searched: payloads of ours, and what nobody can read within them, unpacked."""
    try:
        told = decode(value)
    except UnreadableDelivery:
        return repr(value)
    return repr(told) + repr(b64decode(told.get("payload", "")))


async def dump_redis(redis: Redis) -> str:
    """Everything that Redis holds, unpacked."""
    words: list[str] = []
    async for name in redis.scan_iter(count=1000):
        kind = await redis.type(name)
        words.append(repr(name))
        if kind == b"string":
            value = await redis.get(name)
            words.append(unpacked(value))
        elif kind == b"hash":
            words.append(repr(await redis.hgetall(name)))
        elif kind == b"list":
            words += [unpacked(entry) for entry in await redis.lrange(name, 0, -1)]
        elif kind == b"zset":
            words.append(repr(await redis.zrange(name, 0, -1)))
        elif kind == b"stream":
            words.append(repr(await redis.xrange(name)))
        elif kind == b"set":
            words.append(repr(await redis.smembers(name)))
    return "\n".join(words)


async def dump_sql(engine: AsyncEngine) -> str:
    tables = ("audit_records", "audit_checkpoints", "audit_erased", "privacy_requests")
    async with read_connection(engine) as connection:
        found = [(await connection.execute(text(f"SELECT * FROM {name}"))).all() for name in tables]  # noqa: S608 - ours
    return repr(found)


async def erase(erasures: Erasures, reference: str) -> ErasureRequest:
    person = await erasures.resolve(PORTAL, reference)
    return await erasures.erase(await erasures.create_request(person, Law.GDPR))


async def test_erased_person_is_nowhere(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """Neither values nor any of the ids, in HubSpot, in a full dump of Redis, in a full dump of SQL."""
    ids = await plant(redis, hubspot, engine)
    done = await erase(erasures, EMAIL)
    everything = await dump_redis(redis) + await dump_sql(engine)
    assert [word for word in (*ids, EMAIL, "Adacanary") if word in everything] == []
    assert done.state is RequestState.DONE
    with pytest.raises(ObjectNotFound):
        await erasures.resolve(PORTAL, EMAIL)


async def test_others_are_left_alone(redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures) -> None:
    await plant(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    delivery = Delivery.from_job(decode(await redis.get(f"{JOB_KEY_PREFIX}{PORTAL}-1-1"))["a"][0])
    assert [entry.event.object_id for entry in delivery.entries] == [str(OTHER)]
    assert await redis.zrange(JOB_QUEUE, 0, -1) == [f"{PORTAL}-1-1".encode()]
    assert await redis.zrange(keys.dead_letters_by_time(PORTAL), 0, -1) == [b"ff" * 10]
    assert str(OTHER) in await dump_sql(engine)


async def test_chain_verifies_after_an_erasure(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await plant(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    assert (await verify(engine, master_key=KEY)).is_intact


async def test_every_erased_event_has_an_end(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await plant(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    async with read_connection(engine) as connection:
        ended = await connection.scalars(text("SELECT reason FROM audit_records WHERE outcome = 'discarded'"))
        assert list(ended) == ["erased"] * 3


async def test_record_that_comes_late_loses_the_id_too(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    merged_id, _ = await plant(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    async with redis.pipeline() as pipeline:
        fields = {"object_type": "contact", "object_id": merged_id, "outcome": Outcome.PROCESSED}
        append(pipeline, AuditRecord(action=Action.EVENT, portal_id=PORTAL, **fields))
        await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    assert merged_id not in await dump_sql(engine)


async def test_half_done_erasure_is_resumed(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """A worker still holds a delivery; once it has put it down, the request is done."""
    ids = await plant(redis, hubspot, engine)
    running = f"arq:in-progress:{PORTAL}-1-2"
    await redis.set(running, "worker")
    person = await erasures.resolve(PORTAL, EMAIL)
    asked = await erasures.create_request(person, Law.GDPR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spokes.privacy.erasure._BUSY_WAITS_S", ())
        with pytest.raises(ErasureIncomplete, match="queue"):
            await erasures.erase(asked)
    open_before = [
        (request.id, "hubspot" in request.steps) for request in await load_requests(engine, state=RequestState.OPEN)
    ]
    await redis.delete(running)
    assert open_before == [(asked.id, True)]
    assert await erasures.resume() == (1, 0)
    dump = await dump_redis(redis)
    assert not any(object_id in dump for object_id in ids)


async def test_hubspot_being_down_leaves_the_request_open(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await plant(redis, hubspot, engine)
    person = await erasures.resolve(PORTAL, EMAIL)
    asked = await erasures.create_request(person, Law.CCPA)
    hubspot.faults.add(Fault(path="*/gdpr-delete", times=1, status=503))
    assert await erasures.resume() == (0, 1)
    assert await erasures.resume() == (1, 0)
    assert [request.id for request in await load_requests(engine, state=RequestState.DONE)] == [asked.id]


async def test_export_holds_both_sides(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    ids = await plant(redis, hubspot, engine)
    document = orjson.loads(orjson.dumps(await erasures.export(await erasures.resolve(PORTAL, ids[1]))))
    assert set(ids) <= set(document["contact_ids"])
    assert document["hubspot"]["contact"]["properties"]["email"] == EMAIL
    assert [raw["propertyValue"] for raw in document["queued_events"]] == [EMAIL, "Adacanary"]
    assert (len(document["dead_letters"]), len(document["ledgers"]), len(document["audit_records"])) == (1, 2, 3)


async def test_privacy_deletion_erases_the_local_half(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """As workers do it, with what they know of merges."""
    merged_id, loser_id = await plant(redis, hubspot, engine)
    await redis.set(keys.surviving_id(PORTAL, "contact", loser_id), merged_id)
    raw = event(subscriptionType="contact.privacyDeletion", objectId=int(merged_id))
    await purge_object(redis, Event(raw))
    assert "Adacanary" not in await dump_redis(redis)
    await Archiver(redis, engine, KEY).drain()
    dump = await dump_sql(engine)
    assert not any(object_id in dump for object_id in (merged_id, loser_id))


async def test_order_to_erase_is_not_dropped(redis: Redis) -> None:
    raw = event(subscriptionType="contact.privacyDeletion")
    await queue(redis, f"{PORTAL}-1-3", raw)
    await purge_object(redis, Event(raw))
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_delivery_of_which_nothing_is_left_leaves_nothing_behind(redis: Redis) -> None:
    delivery_id = f"{PORTAL}-1-5"
    await queue(redis, delivery_id, change(5, "email", EMAIL))
    await redis.set(retry_key_prefix + delivery_id, 1)
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"5"})))
    assert [key async for key in redis.scan_iter(f"*{delivery_id}*")] == []


async def test_event_that_had_ended_is_not_ended_twice(redis: Redis) -> None:
    await queue(redis, f"{PORTAL}-1-4", change(5, "email", EMAIL))
    await redis.sadd(keys.settled_events(PORTAL, f"{PORTAL}-1-4"), f"{1:020x}")
    await purge_object(redis, Event(event(subscriptionType="contact.privacyDeletion", objectId=5)))
    told = [one.action for one in await recorded(redis)]
    assert told == [Action.PRIVACY_ERASED]


def test_gdpr_gives_a_month_and_ccpa_45_days() -> None:
    def day(law: Law, asked: int) -> int:
        return (deadline(law, asked) - asked) // 86_400_000

    january_31, march_1 = 1801353600000, 1803859200000  # 2027
    assert [day(Law.GDPR, january_31), day(Law.GDPR, march_1), day(Law.CCPA, march_1)] == [28, 31, 45]


def test_done_request_names_nobody() -> None:
    asked = ErasureRequest(portal_id=1, object_hash="h", object_ids=("77",), kind=Law.GDPR, requested_by="ada")
    row = asked.as_done().to_row()
    assert (row["object_ids"], "77" in str(row["steps"])) == (None, False)


def test_request_is_read_as_it_was_kept() -> None:
    asked = ErasureRequest(portal_id=1, object_hash="h", object_ids=("77",), kind=Law.GDPR, requested_by="ada")
    assert ErasureRequest.from_row(asked.to_row()) == asked


async def test_erased_event_that_a_lost_worker_settles_afterwards_keeps_its_one_end(redis: Redis) -> None:
    delivery_id = f"{PORTAL}-1-1"
    await queue(redis, delivery_id, change(7, "email", EMAIL), change(OTHER, "email", "x@y.example"))
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})))
    assert await redis.smembers(keys.settled_events(PORTAL, delivery_id)) == {f"{1:020x}".encode()}
