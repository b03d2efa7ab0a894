"""workers.queue.leases: which leases are renewed."""

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from workers.delivery.lane_manager import LEASE_MS
from workers.queue import leases


async def renewed_keys(redis: Redis, held: list[leases.Lease], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Renew leases once; return the keys of those that are ours."""
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.0)
    ours: list[str] = []
    rounds: list[list[leases.Lease]] = [held]

    def current() -> list[leases.Lease]:
        if not rounds:
            raise asyncio.CancelledError
        return rounds.pop()

    with contextlib.suppress(asyncio.CancelledError):
        await leases.renew_leases(redis, current, LEASE_MS, lambda lease, _: ours.append(lease.key))
    return ours


async def test_our_leases_are_renewed_or_reacquired_and_others_left_alone(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.mset({"held": "one", "taken": "other", "held too": "one"})
    for name in ("held", "taken", "held too"):
        await redis.pexpire(name, 1_500)
    values = (("held", "one"), ("lapsed", "two"), ("taken", "one"), ("held too", "one"))
    held = [leases.Lease(key, value, may_reacquire=True) for key, value in values]
    assert await renewed_keys(redis, held, monkeypatch) == ["held", "lapsed", "held too"]
    assert await redis.mget("held", "lapsed", "taken", "held too") == [b"one", b"two", b"other", b"one"]
    left_ms = [await redis.pttl(name) for name in ("held", "lapsed", "taken", "held too")]
    assert [2_000 < ms <= LEASE_MS for ms in left_ms] == [True, True, False, True]


async def test_lapsed_lease_that_may_not_be_reacquired_is_lost(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    await redis.set("held", "one")
    held = [leases.Lease("held", "one"), leases.Lease("lapsed", "one")]
    assert await renewed_keys(redis, held, monkeypatch) == ["held"]
    assert not await redis.exists("lapsed")


async def test_more_leases_than_fit_into_one_call_are_renewed(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [leases.Lease(f"lease {number}", "one", may_reacquire=True) for number in range(501)]
    assert await renewed_keys(redis, held, monkeypatch) == [lease.key for lease in held]
