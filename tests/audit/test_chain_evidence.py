"""What reveals a forged stream entry, a missing checkpoint and a shortened chain, and where checkpoints are kept."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.checkpoints import load_checkpoints, sign_end_now, signing_key
from spokes.audit.entry_signature import sign_entries
from spokes.audit.evidence.chain_end import ChainEnd, KnownEnd
from spokes.audit.evidence.checkpoint_target import keep_checkpoint, kept_checkpoints
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql import schema
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.audit.stream import ENTRY_FIELD, append_now
from spokes.audit.verification.verify import Tampering, VerificationResult, verify
from spokes.core.errors import AuditUnavailable
from spokes.core.redis.keys import AUDIT_CHAIN_END, AUDIT_STREAM, DEFAULT_QUEUE, DEFAULT_WORKER_HEALTH
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from tests.support.deployment import KEY
from tests.support.events import append_records, record
from workers.upkeep.chain_watch import push_checkpoint, verify_chain

FORGED = {"action": "event", "portal_id": 7, "outcome": "processed", "id": "forged-1", "at": 5, "actor": "mallory"}


@pytest.fixture
def signed(settings: Settings) -> None:
    """This process signs stream entries, as web processes and workers do."""
    sign_entries(settings)


async def fill(redis: Redis, engine: AsyncEngine, *numbers: int) -> None:
    await append_records(redis, *(record(number) for number in numbers))
    await Archiver(redis, engine, KEY, checkpoint_every=2).drain()


async def execute(engine: AsyncEngine, *statements: str) -> None:
    async with write_connection(engine) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def cut_after(engine: AsyncEngine, seq: int) -> None:
    """Remove the end of the chain with its checkpoints, as who can write the database would."""
    await execute(
        engine,
        f"DELETE FROM audit_records WHERE seq > {seq}",  # noqa: S608 - a number
        f"DELETE FROM audit_checkpoints WHERE seq > {seq}",  # noqa: S608 - as above
        f"UPDATE audit_head SET seq = {seq}, hash = (SELECT hash FROM audit_records WHERE seq = {seq})",  # noqa: S608 - as above
    )


async def verify_with_redis(redis: Redis, engine: AsyncEngine) -> VerificationResult:
    return await verify(engine, master_key=KEY, known=await ChainEnd(redis, KEY).load(), checkpoint_every=2)


async def actions(engine: AsyncEngine) -> list[object]:
    return [row["action"] for row in await fetch(engine, select(RECORDS.c.action).order_by(RECORDS.c.seq))]


@pytest.mark.usefixtures("signed")
async def test_signed_entry_is_archived_as_the_same_record(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1)
    [row] = await fetch(engine, select(RECORDS.c.action, RECORDS.c.detail))
    assert (row["action"], "mac" in str(row["detail"])) == (Action.EVENT, False)


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("extra", [{}, {"mac": "0" * 24}, {"mac": "zz"}])
async def test_forged_stream_entry_is_not_archived_and_found_by_verify(
    redis: Redis, engine: AsyncEngine, extra: dict[str, str]
) -> None:
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps(FORGED | extra)})
    await Archiver(redis, engine, KEY).drain()
    result = await verify_with_redis(redis, engine)
    assert (await actions(engine), result.is_intact, result.tampering) == (["stream.forged"], False, Tampering.FORGED)


@pytest.mark.usefixtures("signed")
async def test_entry_signed_for_another_record_is_forged(redis: Redis, engine: AsyncEngine) -> None:
    await append_records(redis, record(1))
    [(_, fields)] = await redis.xrange(AUDIT_STREAM)
    changed = fields[ENTRY_FIELD].replace(b'"attempt":', b'"attempt":1')
    await redis.delete(AUDIT_STREAM)
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: changed})
    await Archiver(redis, engine, KEY).drain()
    assert await actions(engine) == ["stream.forged"]


@pytest.mark.usefixtures("signed")
async def test_forged_erasure_removes_no_id(redis: Redis, engine: AsyncEngine) -> None:
    await append_now(redis, AuditRecord(action=Action.EVENT, portal_id=7, object_type="contact", object_id="5"))
    await Archiver(redis, engine, KEY).drain()
    erasure = {**FORGED, "action": "privacy.erased", "object_type": "contact", "object_id": "5"}
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps(erasure)})
    await Archiver(redis, engine, KEY).drain()
    [row] = await fetch(engine, select(RECORDS.c.object_id).where(RECORDS.c.action == "event"))
    assert row["object_id"] == "5"


@pytest.mark.usefixtures("signed")
async def test_investigated_forged_entry_is_not_reported_again(redis: Redis, engine: AsyncEngine) -> None:
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps(FORGED)})
    await Archiver(redis, engine, KEY).drain()
    assert (await verify(engine, master_key=KEY, investigated_seq=1)).is_intact


async def test_unsigned_entries_are_archived_for_a_day_after_an_upgrade(
    redis: Redis, engine: AsyncEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of the earlier version do not sign."""
    await fill(redis, engine, 1)
    await execute(engine, "UPDATE audit_stream SET unsigned_until = 1000")
    sign_entries(settings)
    for now_ms in (999, 1000):
        monkeypatch.setattr("spokes.audit.archiver.now_ms", lambda now_ms=now_ms: now_ms)
        await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps({**FORGED, "id": f"unsigned-{now_ms}"})})
        await Archiver(redis, engine, KEY).drain()
    assert await actions(engine) == ["event", "event", "stream.forged"]


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    ("old_key", "archived"), [(DEFAULT_WORKER_HEALTH, "event"), (DEFAULT_QUEUE, "event"), ("other", "stream.forged")]
)
async def test_entries_of_an_earlier_version_before_the_first_record_are_archived(
    redis: Redis, engine: AsyncEngine, old_key: str, archived: str
) -> None:
    await redis.set(old_key, 1)
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps(FORGED)})
    archiver = Archiver(redis, engine, KEY)
    await archiver.drain()
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps({**FORGED, "id": "unsigned-2"})})
    await archiver.drain()
    assert await actions(engine) == [archived] * 2


@pytest.mark.usefixtures("signed")
async def test_default_queue_beside_a_history_opens_nothing(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1)
    await redis.set(DEFAULT_WORKER_HEALTH, 1)
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: orjson.dumps(FORGED)})
    await Archiver(redis, engine, KEY).drain()
    assert await actions(engine) == ["event", "stream.forged"]


async def test_new_store_never_accepts_unsigned_entries(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert (await fetch(engine, text("SELECT unsigned_until FROM audit_stream")))[0]["unsigned_until"] == 0  # type: ignore[arg-type]  # text has rows too


@pytest.mark.parametrize("seq", [2, 4, 6])
async def test_deleted_checkpoint_is_found(redis: Redis, engine: AsyncEngine, seq: int) -> None:
    for first in (1, 3, 5):
        await fill(redis, engine, first, first + 1)
    await execute(engine, f"DELETE FROM audit_checkpoints WHERE seq = {seq}")  # noqa: S608 - a number
    result = await verify_with_redis(redis, engine)
    assert (result.tampering, result.seq) == (Tampering.REMOVED, seq)


async def test_deletion_of_all_checkpoints_is_found_without_redis(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2, 3)
    await execute(engine, "DELETE FROM audit_checkpoints")
    assert (await verify(engine, master_key=KEY)).tampering is Tampering.REMOVED


async def test_deletion_of_the_newest_checkpoints_is_found_without_redis(redis: Redis, engine: AsyncEngine) -> None:
    for first in (1, 3, 5):
        await fill(redis, engine, first, first + 1)
    await execute(engine, "DELETE FROM audit_checkpoints WHERE seq > 2")
    assert (await verify(engine, master_key=KEY, checkpoint_every=2)).tampering is Tampering.REMOVED


async def test_shortened_chain_is_found(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2)
    await fill(redis, engine, 3)
    await cut_after(engine, 2)
    result = await verify_with_redis(redis, engine)
    assert (result.tampering, result.seq) == (Tampering.REMOVED, 3)


async def test_shortened_chain_that_grows_again_is_found_and_alerted(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2)
    await fill(redis, engine, 3)
    await cut_after(engine, 2)
    await fill(redis, engine, 4, 5)
    active = await AlertEpisodes(redis).active(Alert.AUDIT_CHAIN_BROKEN)
    assert (active, (await verify_with_redis(redis, engine)).is_intact) == ([Alert.AUDIT_CHAIN_BROKEN], False)


async def test_missing_head_is_named(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1)
    await execute(engine, "DELETE FROM audit_head")
    with pytest.raises(AuditUnavailable, match="head of the audit chain is missing"):
        await fill(redis, engine, 2)


async def test_forged_end_in_redis_is_ignored(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2)
    await redis.hset(AUDIT_CHAIN_END, mapping={"end": f"spokes-audit-1:checkpoint:9:{'0' * 64}:1:{'0' * 64}"})
    assert (await ChainEnd(redis, KEY).load()).end is None


async def test_checkpoint_signs_the_present_end(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2)
    await fill(redis, engine, 3)
    checkpoint = await sign_end_now(engine, signing_key(KEY))
    again = await sign_end_now(engine, signing_key(KEY))
    assert (checkpoint and checkpoint.seq, again, len(await load_checkpoints(engine))) == (3, checkpoint, 2)


async def test_end_of_a_shortened_chain_is_not_signed(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2, 3)
    await execute(engine, "DELETE FROM audit_records WHERE seq = 3")
    with pytest.raises(AuditUnavailable, match="broken"):
        await sign_end_now(engine, signing_key(KEY))


async def test_empty_chain_has_no_end_to_sign(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert await sign_end_now(engine, signing_key(KEY)) is None


async def test_kept_file_of_checkpoints_reveals_a_shortened_chain(
    redis: Redis, engine: AsyncEngine, environ: dict[str, str], tmp_path: Path
) -> None:
    """Also when Redis knows nothing: then the nightly verification alerts."""
    settings = Settings.from_env({**environ, "CHECKPOINT_TO": str(tmp_path / "checkpoints.txt")})
    episodes = AlertEpisodes(redis)
    await fill(redis, engine, 1, 2)
    await fill(redis, engine, 3)
    for _ in range(2):
        await push_checkpoint(settings, engine, episodes)
    await verify_chain(settings, redis, engine, episodes)
    before = await episodes.active(Alert.AUDIT_CHAIN_BROKEN)
    await redis.delete(AUDIT_CHAIN_END)
    await cut_after(engine, 2)
    await verify_chain(settings, redis, engine, episodes)
    kept = kept_checkpoints(str(tmp_path / "checkpoints.txt"))
    assert ([checkpoint.seq for checkpoint in kept], before) == ([3], [])
    assert await episodes.active(Alert.AUDIT_CHAIN_BROKEN) == [Alert.AUDIT_CHAIN_BROKEN]


async def test_nightly_verification_alerts_about_a_shortened_chain_without_a_kept_file(
    redis: Redis, engine: AsyncEngine, environ: dict[str, str]
) -> None:
    settings, episodes = Settings.from_env({**environ, "CHECKPOINT_EVERY": "2"}), AlertEpisodes(redis)
    await fill(redis, engine, 1, 2)
    await fill(redis, engine, 3)
    await verify_chain(settings, redis, engine, episodes)
    before = await episodes.active(Alert.AUDIT_CHAIN_BROKEN)
    await cut_after(engine, 2)
    await verify_chain(settings, redis, engine, episodes)
    assert (before, await episodes.active(Alert.AUDIT_CHAIN_BROKEN)) == ([], [Alert.AUDIT_CHAIN_BROKEN])


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[TestServer, list[str], list[int]]]:
    """A server that keeps checkpoints: itself, what it received, and the statuses of its next answers."""
    received: list[str] = []
    statuses: list[int] = []

    async def keep(request: web.Request) -> web.Response:
        received.append(await request.text())
        return web.Response(status=statuses.pop() if statuses else 204)

    app = web.Application()
    app.router.add_post("/checkpoints", keep)
    async with TestServer(app) as server:
        yield server, received, statuses


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_checkpoint_is_sent_to_a_url_and_a_failure_alerts_until_it_ends(
    redis: Redis, engine: AsyncEngine, environ: dict[str, str], receiver: tuple[TestServer, list[str], list[int]]
) -> None:
    server, received, statuses = receiver
    statuses.append(500)
    settings = Settings.from_env({**environ, "CHECKPOINT_TO": str(server.make_url("/checkpoints"))})
    episodes = AlertEpisodes(redis)
    await fill(redis, engine, 1)
    active = []
    for _ in range(2):
        await push_checkpoint(settings, engine, episodes)
        active.append(await episodes.active(Alert.CHECKPOINT_NOT_KEPT))
    assert active == [[Alert.CHECKPOINT_NOT_KEPT], []]
    assert [line.startswith("spokes-audit-1:checkpoint:1:") for line in received] == [True, True]


async def test_unwritable_file_of_checkpoints_is_an_error_with_a_sentence(
    redis: Redis, engine: AsyncEngine, tmp_path: Path
) -> None:
    await fill(redis, engine, 1)
    [checkpoint] = await load_checkpoints(engine)
    with pytest.raises(AuditUnavailable, match="CHECKPOINT_TO cannot be"):
        await keep_checkpoint(str(tmp_path / "missing" / "file"), checkpoint)


def test_nothing_is_known_without_redis() -> None:
    assert KnownEnd().positions == ()


async def test_store_of_another_key_is_not_continued_by_a_new_redis(redis: Redis, engine: AsyncEngine) -> None:
    """As after restoring the audit store alone, with the wrong AUDIT_KEY: the records wait for the right one."""
    await fill(redis, engine, 1, 2)
    await redis.flushall()
    await append_records(redis, record(3))
    with pytest.raises(AuditUnavailable, match="signed with another AUDIT_KEY"):
        await Archiver(redis, engine, f"another-{KEY}").drain()
    assert await redis.xlen(AUDIT_STREAM) == 1
    assert await Archiver(redis, engine, KEY).drain() == 1
    assert (await verify(engine, master_key=KEY)).is_intact


async def test_key_that_was_changed_on_purpose_continues_the_store(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 2)
    await append_records(redis, record(3))
    assert await Archiver(redis, engine, f"another-{KEY}").drain() == 1
