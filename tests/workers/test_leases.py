"""workers.queue.leases: which leases are renewed."""

from redis.asyncio import Redis

from workers.delivery.lane_manager import LEASE_MS
from workers.queue import leases


async def renewed_keys(redis: Redis, held: list[leases.Lease]) -> list[str]:
    """Renew leases once; return the keys of those that are ours."""
    ours: list[str] = []
    await leases.LeaseRenewal(redis, lambda: held, LEASE_MS, lambda lease, _: ours.append(lease.key)).renew()
    return ours


async def test_our_leases_are_renewed_or_reacquired_and_others_left_alone(redis: Redis) -> None:
    await redis.mset({"held": "one", "taken": "other", "held too": "one"})
    for name in ("held", "taken", "held too"):
        await redis.pexpire(name, 1_500)
    values = (("held", "one"), ("lapsed", "two"), ("taken", "one"), ("held too", "one"))
    held = [leases.Lease(key, value, may_reacquire=True) for key, value in values]
    assert await renewed_keys(redis, held) == ["held", "lapsed", "held too"]
    assert await redis.mget("held", "lapsed", "taken", "held too") == [b"one", b"two", b"other", b"one"]
    left_ms = [await redis.pttl(name) for name in ("held", "lapsed", "taken", "held too")]
    assert [2_000 < ms <= LEASE_MS for ms in left_ms] == [True, True, False, True]


async def test_lapsed_lease_that_may_not_be_reacquired_is_lost(redis: Redis) -> None:
    await redis.set("held", "one")
    held = [leases.Lease("held", "one"), leases.Lease("lapsed", "one")]
    assert await renewed_keys(redis, held) == ["held"]
    assert not await redis.exists("lapsed")


async def test_more_leases_than_fit_into_one_call_are_renewed(redis: Redis) -> None:
    held = [leases.Lease(f"lease {number}", "one", may_reacquire=True) for number in range(501)]
    assert await renewed_keys(redis, held) == [lease.key for lease in held]
