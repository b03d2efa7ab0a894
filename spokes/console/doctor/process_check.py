"""Who works, what waits for an operator, how old the secrets are. Rule: figures are fetched here and judged below."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import OUTBOX
from spokes.console.doctor.findings import Finding, ok, warning
from spokes.console.queries.alerts import ActiveAlert as Alert
from spokes.console.queries.alerts import active_alerts
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.metric_totals import LIVE_PROCESSES, PROCESS_TTL_S
from spokes.core.telemetry.secret_ages import alert_for_age, secret_ages

_UNSENT_WARNING_S: Final = 300


class ProcessState(NamedTuple):
    """Processes by kind, alerts that stand, why portals are paused, unreadable jobs, how long an alert is unsent."""

    processes: Mapping[str, int]
    alerts: Sequence[Alert]
    pause_reasons: Mapping[int, str]
    unreadable_jobs: int
    oldest_unsent_s: float


async def check_processes(settings: Settings, redis: Redis) -> list[Finding]:
    """Look at what only Redis knows of the processes."""
    try:
        standing = await _read_state(redis)
        ages = await secret_ages(settings, redis)
    except (RedisError, OSError, TimeoutError):
        return []  # that Redis does not answer is said once, by who looks at Redis
    sends = bool(settings.alert_webhook_url.get_secret_value())
    return [*assess_processes(standing, has_webhook=sends), *assess_secret_ages(ages), *assess_persistence(settings)]


def assess_processes(state: ProcessState, *, has_webhook: bool) -> Iterator[Finding]:
    """Judge who works and what waits for an operator; `sends` says whether alerts go to a webhook."""
    told = ", ".join(f"{state.processes.get(kind, 0)} {kind}" for kind in ("web", "worker"))
    lives = all(state.processes.get(kind, 0) for kind in ("web", "worker"))
    judge = ok if lives else warning
    yield judge("processes", f"{told} live{'' if lives else ': events wait until both do'}.", **state.processes)
    for alert in state.alerts:
        yield warning("alerts", f"{alert.name} stands. {alert.meaning} {alert.advice}", alert=alert.name)
    if not state.alerts:
        yield ok("alerts", "None stands.")
    for portal_id, why in state.pause_reasons.items():
        yield warning(
            "pauses", f"The work of portal {portal_id} waits: {why}. `spokes resume {portal_id}` lets it go on."
        )
    if state.unreadable_jobs:
        told = f"{state.unreadable_jobs} jobs that nobody can read are kept: who else writes to this Redis?"
        yield warning("queue", told, unreadable=state.unreadable_jobs)
    if has_webhook and state.oldest_unsent_s > _UNSENT_WARNING_S:
        told = f"An alert has not reached ALERT_WEBHOOK_URL for {state.oldest_unsent_s:.0f} s: does it answer 2xx?"
        yield warning("alerts", told, unsent_s=round(state.oldest_unsent_s))


def assess_secret_ages(ages: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Judge how old each secret is, in days."""
    for name, days in ages:
        if alert_for_age(days):
            yield warning(
                "secrets", f"{name} has been in use for {days} days: rotate it (docs/operations.md).", days=days
            )
        else:
            yield ok("secrets", f"{name} has been in use for {days} days.", days=days)
    if not ages:
        yield ok("secrets", "Their age is not known yet; workers note it when they first see one.")


def assess_persistence(settings: Settings) -> Iterator[Finding]:
    """Judge whether what must stay stays, where Redis is elsewhere and this disk may not last."""
    if not settings.redis_url.get_secret_value():
        return
    if not settings.audit_key.get_secret_value():
        told = "AUDIT_KEY is not set, so each machine makes its own: duplicates get in, and no chain verifies."
        yield warning("secrets", told)
    if not settings.database_url.get_secret_value():
        yield warning(
            "audit store", "DATABASE_URL is not set: the audit is a file in DATA_DIR, which dynos lose each day."
        )


async def _read_state(redis: Redis) -> ProcessState:
    now_s = time.time()
    living = await redis.zrangebyscore(LIVE_PROCESSES, now_s - PROCESS_TTL_S, "+inf")
    paused: dict[bytes, bytes] = await redis.hgetall(keys.PAUSED_PORTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
    oldest: bytes | None = await redis.lindex(OUTBOX, 0)  # type: ignore[misc]  # as above
    unreadable = int(await redis.llen(keys.UNREADABLE_JOBS))  # type: ignore[misc]  # as above
    message: dict[str, Any] = orjson.loads(oldest) if oldest else {}
    return ProcessState(
        processes=Counter(member.decode().partition(":")[0] for member in living),
        alerts=await active_alerts(redis, None),
        pause_reasons={int(portal): orjson.loads(fields)["why"] for portal, fields in paused.items()},
        unreadable_jobs=unreadable,
        oldest_unsent_s=now_s - message["at"] / 1000 if message else 0.0,
    )
