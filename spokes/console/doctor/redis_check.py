"""Is Redis fit to hold events, and what waits in it. Rule: figures are fetched in one place and judged in another."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core import clock
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE
from spokes.core.redis.durability import appendfsync, waitaof_problem
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters

TOPIC: Final = "redis"
_PINGS: Final = 20
_SLOW_LATENCY_MS: Final = 5.0
_MAX_SKEW_S: Final = 2.0
_MEMORY_WARNING_SHARE: Final = 0.8  # share of maxmemory
_MIN_VERSION: Final = (6, 2)
_LATE_WARNING_S: Final = 60.0
_DISCARD_FAULT_DAYS: Final = 3


class Backlog(NamedTuple):
    """What waits: deliveries that are due and that are not yet, seconds the oldest is late, audit records, dead ones.

    `oldest_dead_at` is epoch ms, 0 without dead letters.
    """

    due: int
    scheduled: int
    oldest_due_s: float
    audit_records: int
    dead_letters: int
    oldest_died_at: int


async def check_redis(redis: Redis, *, dead_letter_days: int, durable: bool) -> list[Finding]:
    """Look at the server and at what waits in it."""
    try:
        latency_ms = await _latency_ms(redis)
        before = time.time()
        seconds, micros = await redis.time()
        skew_s = seconds + micros / 1_000_000 - (before + time.time()) / 2
        info = await redis.info()
        waits_in_vain = waitaof_problem(info, await appendfsync(redis)) if durable else None
        waiting = await _read_backlog(redis)
    except (RedisError, OSError, TimeoutError) as error:
        told = f"Redis does not answer ({type(error).__name__}): the receiver answers 503 and no worker runs."
        return [fault(TOPIC, f"{told} REDIS_URL says where it is.")]
    disk = [fault(TOPIC, waits_in_vain)] if waits_in_vain else []
    return [*assess_server(info, latency_ms, skew_s), *disk, *assess_backlog(waiting, dead_letter_days, time.time())]


def assess_server(info: Mapping[str, Any], latency_ms: float, skew_s: float) -> Iterator[Finding]:
    """Judge what INFO says of the server."""
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    name = "Valkey" if "valkey_version" in info else "Redis"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _MIN_VERSION:
        yield warning(TOPIC, f"{name} {version} is older than 6.2, with which nothing was tested.", version=version)
    else:
        yield ok(TOPIC, f"{name} {version} answers in {latency_ms:.1f} ms.", version=version, latency_ms=latency_ms)
    if latency_ms > _SLOW_LATENCY_MS:
        yield warning(TOPIC, f"Redis takes {latency_ms:.1f} ms to answer: have it in the same region.")
    if abs(skew_s) > _MAX_SKEW_S:
        yield warning(TOPIC, f"Its clock and ours differ by {skew_s:+.1f} s: set both by NTP.", skew_s=skew_s)
    else:
        yield ok(TOPIC, f"Its clock and ours agree to {abs(skew_s):.1f} s.", skew_s=skew_s)
    yield from _assess_persistence(info)
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    share = used / most if most else 0.0
    told = f"{used / 2**20:.0f} MiB of {most / 2**20:.0f} MiB are used" if most else f"{used / 2**20:.0f} MiB are used"
    judge = fault if share >= 1 else warning if share > _MEMORY_WARNING_SHARE else ok
    yield judge(
        TOPIC,
        f"{told}{'; a full one makes the receiver answer 503' if share > _MEMORY_WARNING_SHARE else ''}.",
        used=used,
    )


def _assess_persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge whether it keeps what it has taken: when memory is short, and when it ends."""
    policy = str(info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        yield ok(TOPIC, "When memory is short it takes no more, and lets nothing go (noeviction).")
    elif policy:
        yield fault(TOPIC, f"maxmemory-policy is {policy}: when memory is short, queued events vanish. Set noeviction.")
    if not int(info.get("aof_enabled", 0)):
        if (
            info.get("rdb_last_save_time")
            and str(info.get("role")) == "master"
            and int(info.get("connected_slaves", 0))
        ):
            yield warning(
                TOPIC, "There is no append-only file, only snapshots and a replica: a crash may lose seconds."
            )
        else:
            yield fault(TOPIC, "There is no append-only file: a crash loses accepted events. Set appendonly yes.")
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield fault(TOPIC, "The append-only file cannot be written: look at the disk of Redis.")
    else:
        yield ok(TOPIC, "It keeps what it has taken in its append-only file.")


def assess_backlog(backlog: Backlog, dead_letter_days: int, now_s: float) -> Iterator[Finding]:
    """Judge the queue and the dead letters."""
    figures: dict[str, object] = {
        "due": backlog.due,
        "later": backlog.scheduled,
        "late_s": round(backlog.oldest_due_s, 1),
    }
    told = f"{backlog.due:,} deliveries are due and {backlog.scheduled:,} wait for their time"
    if backlog.oldest_due_s > _LATE_WARNING_S:
        yield warning(
            "queue", f"{told}; the oldest is {backlog.oldest_due_s:,.0f} s late: are workers running?", **figures
        )
    else:
        yield ok("queue", f"{told}.", **figures)
    yield ok(
        "queue",
        f"{backlog.audit_records:,} audit records wait to be archived or are kept.",
        audit=backlog.audit_records,
    )
    if not backlog.dead_letters:
        yield ok("dead letters", "There are none.", dead=0)
        return
    left_days = dead_letter_days - (now_s - backlog.oldest_died_at / 1000) / 86_400
    told = f"There are {backlog.dead_letters:,}; the oldest is discarded by itself in {max(left_days, 0):.0f} days"
    judge = fault if left_days < _DISCARD_FAULT_DAYS else warning
    yield judge(
        "dead letters", f"{told}: see `spokes dead list`.", dead=backlog.dead_letters, left_days=round(left_days, 1)
    )


async def _latency_ms(redis: Redis) -> float:
    """The median of some round trips."""
    taken: list[float] = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await redis.ping()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)[_PINGS // 2]


async def _read_backlog(redis: Redis) -> Backlog:
    now_ms = clock.now_ms()
    due = await redis.zcount(JOB_QUEUE, "-inf", now_ms)
    oldest = await redis.zrange(JOB_QUEUE, 0, 0, withscores=True)
    late_s = max(now_ms - oldest[0][1], 0) / 1000 if oldest else 0.0
    audit = await redis.xlen(AUDIT_STREAM)
    indexes = [DeadLetterIndex(redis, portal) for portal in await DeadLetters(redis).portals()]
    dead = sum([await index.count() for index in indexes])
    died = [at for index in indexes if (at := await index.oldest_at()) is not None]
    later = await redis.zcard(JOB_QUEUE) - due
    return Backlog(due, later, late_s, audit, dead, min(died, default=0))
