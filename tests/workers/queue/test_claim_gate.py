"""workers.queue.claim_gate: when workers claim no deliveries."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.redis.keys import ALERTS_HELD, AUDIT_STREAM, JOB_QUEUE, foreign_value
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from tests.support.redis_server import fill_memory, free_memory, own_server
from workers.queue.claim_gate import ClaimGate, may_claim


@pytest.mark.parametrize(
    ("share", "has_records", "was_open", "expected"),
    [
        (0.0, True, True, True),
        (0.94, True, True, True),
        (0.95, True, True, False),
        (0.94, True, False, False),
        (0.91, True, False, True),
        (1.2, False, False, True),
    ],
)
def test_nothing_is_claimed_above_the_memory_mark_while_records_wait(
    share: float, has_records: bool, was_open: bool, expected: bool
) -> None:
    assert may_claim(share, has_records=has_records, was_open=was_open) is expected


async def test_gate_closes_with_an_alert_in_a_full_redis_and_reopens(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert begins when the full Redis has lasted the hold-down, although it was reported before."""
    later_ms = clock.now_ms() + round(HOLD_DOWN_S[Alert.CLAIMS_STOPPED] * 1000) + 60_000
    async with own_server(tmp_path, maxmemory="3mb") as (_, redis):
        gate = ClaimGate(redis, settings)
        await redis.xadd(AUDIT_STREAM, {"r": "x"})
        states = []
        for change in (None, fill_memory, free_memory):
            if change is not None:
                await change(redis)
            await gate.measure()
            with monkeypatch.context() as patch:
                patch.setattr("spokes.audit.alerts.alert_episodes.now_ms", lambda: later_ms)
                await AlertEpisodes(redis).report_held()
            states.append((gate.is_open, await AlertEpisodes(redis).active("claims_stopped")))
    assert states == [(True, []), (False, ["claims_stopped"]), (True, [])]


@pytest.mark.parametrize("name", [JOB_QUEUE, AUDIT_STREAM])
async def test_gate_reopens_after_a_key_of_every_delivery_with_another_type_was_renamed(
    redis: Redis, settings: Settings, name: str
) -> None:
    gate = ClaimGate(redis, settings)
    await redis.set(name, "not ours")
    await gate.measure()
    is_open_with_it = gate.is_open
    await gate.measure()
    assert (is_open_with_it, gate.is_open) == (False, True)
    assert await redis.get(foreign_value(name)) == b"not ours"


async def test_gate_stays_closed_with_an_alert_if_the_redis_user_may_not_rename(
    tmp_path: Path, settings: Settings
) -> None:
    async with own_server(tmp_path) as (url, redis):
        await redis.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "&*", "+@all", "-rename")
        await redis.set(JOB_QUEUE, "not ours")
        async with Redis.from_url(url.replace("//", "//user:right@")) as client:
            gate = ClaimGate(client, settings)
            await gate.measure()
            await gate.measure()
        held = await redis.hkeys(ALERTS_HELD)  # type: ignore[misc]  # redis-py types one class for sync and async
    assert (gate.is_open, held) == (False, [b"claims_stopped"])


async def test_redis_user_without_info_does_not_close_the_gate(tmp_path: Path, settings: Settings) -> None:
    async with own_server(tmp_path) as (url, redis):
        await redis.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "&*", "+@all", "-info")
        async with Redis.from_url(url.replace("//", "//user:right@")) as client:
            gate = ClaimGate(client, settings)
            await gate.measure()
    assert gate.is_open
