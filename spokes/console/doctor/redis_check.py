"""Check Redis: durability, latency, clock, memory, the queue and the dead letters."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core import clock
from spokes.core.redis.durability import appendfsync, server_info, waitaof_problem
from spokes.core.redis.key_types import FIXED_KEYS, wrong_type_sentence, wrong_types
from spokes.core.redis.keys import AUDIT_STREAM, QUEUES
from spokes.core.redis.tls_mismatch import explain_refusal
from spokes.core.settings import Settings
from spokes.intake.admission import probe_admission
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.default_queue import FOREIGN_ADVICE, DefaultQueueJobs, read_default_queue

TOPIC: Final = "redis"
_PINGS: Final = 20
_SLOW_LATENCY_MS: Final = 5.0
_MAX_SKEW_S: Final = 2.0
_MEMORY_WARNING_SHARE: Final = 0.8  # of maxmemory
_CONNECTIONS_WARNING_SHARE: Final = 0.85  # of maxclients
_MIN_VERSION: Final = (6, 2)
_LATE_WARNING_S: Final = 60.0
_DISCARD_FAULT_DAYS: Final = 3
_NO_INFO: Final = (
    "The Redis user may not call INFO, so memory, connections and durability are unknown, and MAX_MEMORY_SHARE does "
    "not hold. Allow it: ACL SETUSER <user> +info."
)


class Backlog(NamedTuple):
    """What is stored in Redis and not finished.

    Attributes:
        due: deliveries that a worker could run now.
        scheduled: deliveries that are due later.
        oldest_due_s: seconds since the oldest delivery became due.
        audit_records: records in the audit stream.
        dead_letters: of all portals.
        oldest_died_at: epoch ms, 0 without dead letters.
    """

    due: int
    scheduled: int
    oldest_due_s: float
    audit_records: int
    dead_letters: int
    oldest_died_at: int


def keys_of_wrong_type(findings: Iterable[Finding]) -> frozenset[str]:
    """Return the keys that `check_redis` names because they hold another type of value."""
    named = (finding.figures.get("keys") for finding in findings if finding.topic == TOPIC)
    return frozenset(str(key) for keys in named if isinstance(keys, list) for key in keys)


async def check_redis(redis: Redis, settings: Settings) -> list[Finding]:
    """Check the server and its backlog; where deliveries wait for the disk, also check that WAITAOF can succeed."""
    durable = settings.durable_ack == "aof"
    try:
        latency_ms = await _latency_ms(redis)
        before_s = clock.now_s()
        seconds, micros = await redis.time()
        skew_s = seconds + micros / 1_000_000 - (before_s + clock.now_s()) / 2
        if wrong_keys := await wrong_types(redis, FIXED_KEYS):
            return [fault(TOPIC, wrong_type_sentence(wrong_keys), keys=list(wrong_keys))]
        await probe_admission(redis)
        info = await server_info(redis)
        waitaof_sentence = waitaof_problem(info, await appendfsync(redis)) if durable and info else None
        backlog = await _read_backlog(redis)
        default_queue = await read_default_queue(redis)
    except (RedisError, OSError, TimeoutError) as error:
        return [
            fault(
                TOPIC,
                f"{await explain_refusal(error, settings)} Until then the web process answers 503 and no event is "
                "processed. Without REDIS_URL, start `spokes up`, which runs a Valkey.",
            )
        ]
    waitaof_findings = [fault(TOPIC, waitaof_sentence)] if waitaof_sentence else []
    return [
        *(assess_server(info, latency_ms, skew_s) if info else [warning(TOPIC, _NO_INFO)]),
        *waitaof_findings,
        *assess_backlog(backlog, settings.dead_letter_days, clock.now_s()),
        *assess_default_queue(default_queue),
    ]


def assess_server(info: Mapping[str, Any], latency_ms: float, skew_s: float) -> Iterator[Finding]:
    """Assess version, latency, clock, durability and memory; `info` is the response to INFO."""
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    name = "Valkey" if "valkey_version" in info else "Redis"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _MIN_VERSION:
        yield warning(
            TOPIC, f"{name} {version} is older than 6.2, the oldest tested version. Upgrade it.", version=version
        )
    else:
        yield ok(TOPIC, f"{name} {version} answers in {latency_ms:.1f} ms.", version=version, latency_ms=latency_ms)
    if latency_ms > _SLOW_LATENCY_MS:
        yield warning(
            TOPIC,
            f"Redis takes {latency_ms:.1f} ms to answer, which slows every event down. Run it in the region of the web "
            "process and the workers.",
        )
    if abs(skew_s) > _MAX_SKEW_S:
        yield warning(
            TOPIC,
            f"The clocks of Redis and of this machine differ by {skew_s:+.1f} s, so recorded and due times are wrong. "
            "Synchronise both by NTP.",
            skew_s=skew_s,
        )
    else:
        yield ok(TOPIC, f"The clocks of Redis and of this machine agree to {abs(skew_s):.1f} s.", skew_s=skew_s)
    yield from _assess_durability(info)
    yield from _assess_connections(int(info.get("connected_clients", 0)), int(info.get("maxclients", 0)))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    share = used / limit if limit else 0.0
    of_limit = f" of {limit / 2**20:.0f} MiB" if limit else ""
    sentence = f"Redis uses {used / 2**20:.0f}{of_limit or ' MiB'}"
    if share > _MEMORY_WARNING_SHARE:
        level = fault if share >= 1 else warning
        yield level(
            TOPIC,
            f"{sentence}: when its memory is full, the web process answers 503. Add memory, or clear the backlog.",
            used=used,
        )
    else:
        yield ok(TOPIC, f"{sentence}.", used=used)


def _assess_connections(in_use: int, limit: int) -> Iterator[Finding]:
    """Check that further processes can connect; old servers do not report their limit."""
    if limit and in_use >= limit * _CONNECTIONS_WARNING_SHARE:
        yield warning(
            TOPIC,
            f"Redis has {in_use} of {limit} connections in use: it refuses further processes. Choose a larger plan, or "
            "lower REDIS_WEB_CONNECTIONS, REDIS_WORKER_CONNECTIONS and REDIS_CONSOLE_CONNECTIONS.",
            connections=in_use,
            limit=limit,
        )
    elif limit:
        yield ok(TOPIC, f"Redis has {in_use} of {limit} connections in use.", connections=in_use, limit=limit)


def _assess_durability(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that accepted events survive a lack of memory and a crash."""
    policy = str(info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        yield ok(TOPIC, "Redis refuses writes when its memory is full and evicts no key (noeviction).")
    elif policy:
        yield fault(
            TOPIC,
            f"Redis evicts keys (maxmemory-policy={policy}): queued events can be lost. Set maxmemory-policy to "
            "noeviction.",
        )
    if not int(info.get("aof_enabled", 0)):
        has_snapshots = bool(info.get("rdb_last_save_time"))
        if has_snapshots and str(info.get("role")) == "master" and int(info.get("connected_slaves", 0)):
            yield warning(
                TOPIC,
                "Redis has no append-only file, only snapshots and a replica: a crash can lose the last seconds of "
                "accepted events. Set appendonly to yes.",
            )
        else:
            yield fault(TOPIC, "Redis has no append-only file: a crash loses accepted events. Set appendonly to yes.")
    elif info.get("aof_last_write_status", "ok") != "ok":
        yield fault(
            TOPIC,
            "Redis cannot write its append-only file: a crash loses accepted events. Check the disk of the Redis "
            "server.",
        )
    else:
        yield ok(TOPIC, "Redis writes accepted events to its append-only file.")


def assess_backlog(backlog: Backlog, dead_letter_days: int, now_s: float) -> Iterator[Finding]:
    """Assess the queue, the audit stream and the dead letters."""
    figures: dict[str, object] = {
        "due": backlog.due, "scheduled": backlog.scheduled, "oldest_due_s": round(backlog.oldest_due_s, 1),
    }  # fmt: skip
    counts = f"Deliveries in the queue: {backlog.due:,} due now, {backlog.scheduled:,} scheduled for later"
    if backlog.oldest_due_s > _LATE_WARNING_S:
        yield warning(
            "queue",
            f"{counts}. The oldest has been due for {backlog.oldest_due_s:,.0f} s: workers do not keep up. Check that "
            "enough are running.",
            **figures,
        )
    else:
        yield ok("queue", f"{counts}.", **figures)
    yield ok(
        "queue",
        f"Audit records in the Redis stream: {backlog.audit_records:,}, not yet archived or still retained.",
        audit=backlog.audit_records,
    )
    if not backlog.dead_letters:
        yield ok("dead letters", "There are no dead letters.", dead=0)
        return
    days_left = dead_letter_days - (now_s - backlog.oldest_died_at / 1000) / 86_400
    level = fault if days_left < _DISCARD_FAULT_DAYS else warning
    yield level(
        "dead letters",
        f"Events that failed for good: {backlog.dead_letters:,}. The oldest expires in {max(days_left, 0):.0f} "
        "days. Run `spokes dead list`, then replay or discard them.",
        dead=backlog.dead_letters,
        left_days=round(days_left, 1),
    )


def assess_default_queue(jobs: DefaultQueueJobs) -> Iterator[Finding]:
    """Report jobs in arq's default queue, which only other programs and earlier versions of Spokes use."""
    if jobs.ours:
        yield warning(
            "queue",
            f"Deliveries in arq's default queue: {len(jobs.ours):,}. An earlier version of Spokes put them there. A "
            "running worker takes them over within a minute; if none does, start one.",
            earlier=len(jobs.ours),
        )
    if jobs.foreign:
        yield warning(
            "queue",
            f"Jobs of another application in arq's default queue: {len(jobs.foreign):,}. {FOREIGN_ADVICE}",
            foreign=len(jobs.foreign),
        )


async def _latency_ms(redis: Redis) -> float:
    """Return the fastest round trip of several pings: what the distance costs, without what else runs here."""
    round_trips_ms: list[float] = []
    for _ in range(_PINGS):
        started = time.perf_counter()
        await redis.ping()
        round_trips_ms.append((time.perf_counter() - started) * 1000)
    return min(round_trips_ms)


async def _read_backlog(redis: Redis) -> Backlog:
    now_ms = clock.now_ms()
    due = queued = 0
    oldest_due_s = 0.0
    for queue in QUEUES.values():
        due += await redis.zcount(queue, "-inf", now_ms)
        queued += await redis.zcard(queue)
        for _, due_at in await redis.zrange(queue, 0, 0, withscores=True):
            oldest_due_s = max(oldest_due_s, (now_ms - due_at) / 1000)
    audit_records = await redis.xlen(AUDIT_STREAM)
    indexes = [DeadLetterIndex(redis, portal) for portal in await DeadLetters(redis).portals()]
    dead_letters = sum([await index.count() for index in indexes])
    oldest_times = [at for index in indexes if (at := await index.oldest_at()) is not None]
    return Backlog(due, queued - due, oldest_due_s, audit_records, dead_letters, min(oldest_times, default=0))
