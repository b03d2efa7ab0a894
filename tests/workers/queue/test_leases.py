"""workers.queue.leases: which leases are renewed."""

import time

import pytest
from redis.asyncio import Redis

from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from tests.support.waiting import until
from workers.lanes.lane_manager import LEASE_MS
from workers.queue import leases
from workers.queue.lease_thread import LeaseThread

_SHORT_LEASE_MS = 1_500


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


@pytest.fixture
def renewed() -> list[str]:
    """Keys of leases that were renewed."""
    return []


@pytest.fixture
async def renewal(redis: Redis, renewed: list[str]) -> leases.LeaseRenewal:
    """The event loop's renewal, which is late; of the lease `held`."""
    await redis.set("held", "one", px=_SHORT_LEASE_MS)
    held = [leases.Lease("held", "one"), leases.Lease("lapsed", "one", may_reacquire=True)]
    renewal = leases.LeaseRenewal(redis, lambda: held, _SHORT_LEASE_MS, lambda lease, _: renewed.append(lease.key))
    renewal.renewed_at -= 1.0
    return renewal


def lease_thread(environ: dict[str, str], renewal: leases.LeaseRenewal) -> LeaseThread:
    return LeaseThread(Settings.from_env(environ), renewal, late_s=0.2, check_every_s=0.05)


async def test_thread_renews_leases_while_the_loop_is_blocked(
    redis: Redis, environ: dict[str, str], renewal: leases.LeaseRenewal, renewed: list[str]
) -> None:
    with lease_thread(environ, renewal):
        time.sleep(2 * _SHORT_LEASE_MS / 1000)  # noqa: ASYNC251 - as a handler does
    assert (await redis.exists("held"), set(renewed)) == (1, {"held"})


async def test_thread_leaves_leases_to_a_loop_that_renews_them_in_time(
    environ: dict[str, str], renewal: leases.LeaseRenewal, renewed: list[str]
) -> None:
    renewal.renewed_at += 3600
    with lease_thread(environ, renewal):
        time.sleep(0.5)  # noqa: ASYNC251 - as above
    assert renewed == []


async def test_thread_renews_leases_while_the_loop_waits_for_a_connection(
    redis: Redis, environ: dict[str, str], renewal: leases.LeaseRenewal
) -> None:
    """Other calls of the worker may use all of them, and a stalled one is noticed late."""
    client = redis_client(Settings.from_env(environ), max_connections=1, timeout_s=20)
    waiting = renewal.over(client, renewal.leases)
    waiting.renewed_at -= 1.0
    connection = await client.connection_pool.get_connection("GET")
    try:
        with lease_thread(environ, waiting):
            with pytest.raises(TimeoutError):
                await waiting.renew()
            assert await redis.exists("held")
            await client.connection_pool.release(connection)
            await waiting.renew()  # the pool gives its connection again
    finally:
        await client.aclose()


async def test_thread_reacquires_no_lease(
    redis: Redis, environ: dict[str, str], renewal: leases.LeaseRenewal, renewed: list[str]
) -> None:
    with lease_thread(environ, renewal):
        await until(lambda: renewed)
    assert (await redis.exists("lapsed"), set(renewed)) == (0, {"held"})


async def test_thread_reads_leases_again_that_the_loop_has_just_changed(
    redis: Redis, environ: dict[str, str], renewal: leases.LeaseRenewal, renewed: list[str]
) -> None:
    await redis.persist("held")
    calls: list[int] = []

    def held() -> list[leases.Lease]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("dictionary changed size during iteration")
        return [leases.Lease("held", "one")]

    renewal.leases = held
    with lease_thread(environ, renewal):
        await until(lambda: renewed)
    assert set(renewed) == {"held"}
