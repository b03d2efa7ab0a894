"""workers.queue.leases: which leases are renewed."""

import time
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from spokes.core.settings import Settings
from workers.lanes.lane_manager import LEASE_MS
from workers.queue import leases
from workers.queue.leases_while_blocked import LeasesWhileBlocked

_SHORT_LEASE_MS = 600


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


def renew_while_blocked(
    environ: dict[str, str], held: Callable[[], list[leases.Lease]], renewed: list[str], *, is_blocked: bool = True
) -> LeasesWhileBlocked:
    return LeasesWhileBlocked(
        Settings.from_env(environ),
        held,
        _SHORT_LEASE_MS,
        lambda lease, _: renewed.append(lease.key),
        is_blocked=lambda: is_blocked,
        every_s=0.1,
    )


@pytest.mark.parametrize("is_blocked", [True, False])
async def test_thread_renews_leases_only_while_the_loop_is_blocked(
    redis: Redis, environ: dict[str, str], is_blocked: bool
) -> None:
    await redis.set("held", "one", px=_SHORT_LEASE_MS)
    renewed: list[str] = []
    with renew_while_blocked(environ, lambda: [leases.Lease("held", "one")], renewed, is_blocked=is_blocked):
        time.sleep(2 * _SHORT_LEASE_MS / 1000)  # noqa: ASYNC251 - as a handler does
    assert (await redis.exists("held"), set(renewed)) == ((1, {"held"}) if is_blocked else (0, set()))


async def test_thread_reacquires_no_lease(redis: Redis, environ: dict[str, str]) -> None:
    renewed: list[str] = []
    with renew_while_blocked(environ, lambda: [leases.Lease("lapsed", "one", may_reacquire=True)], renewed):
        time.sleep(0.5)  # noqa: ASYNC251 - as above
    assert (await redis.exists("lapsed"), renewed) == (0, [])


async def test_thread_reads_leases_again_that_the_loop_has_just_changed(redis: Redis, environ: dict[str, str]) -> None:
    await redis.set("held", "one", px=60_000)
    calls: list[int] = []

    def held() -> list[leases.Lease]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("dictionary changed size during iteration")
        return [leases.Lease("held", "one")]

    renewed: list[str] = []
    with renew_while_blocked(environ, held, renewed):
        time.sleep(0.5)  # noqa: ASYNC251 - as above
    assert set(renewed) == {"held"}
