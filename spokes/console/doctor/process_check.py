"""Check the running processes, the problems that wait for an operator, and the age of the secrets."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.bad_items import read_items
from spokes.console.doctor.findings import Finding, ok, warning
from spokes.console.queries.alerts import ActiveAlert, active_alerts
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.metric_totals import PROCESS_TTL_S
from spokes.core.telemetry.secret_ages import alert_for_age, secret_ages

_UNSENT_WARNING_S: Final = 300
_NAMED: Final = 20  # subjects of an alert in a sentence


class ProcessState(NamedTuple):
    """The state in Redis of processes, alerts and unreadable jobs.

    `processes` counts live processes by kind; `oldest_unsent_s` is the age of the oldest alert message in the outbox, 0
    if there is none.
    """

    processes: Mapping[str, int]
    alerts: Sequence[ActiveAlert]
    unreadable_jobs: int
    oldest_unsent_s: float


async def check_processes(settings: Settings, redis: Redis) -> list[Finding]:
    """Read the state from Redis and assess it."""
    try:
        state = await _read_state(redis)
        ages = await secret_ages(settings, redis)
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    has_webhook = bool(settings.alert_webhook_url.get_secret_value())
    return [
        *assess_processes(state, has_webhook=has_webhook), *assess_secret_ages(ages), *assess_persistence(settings)
    ]  # fmt: skip


def assess_processes(state: ProcessState, *, has_webhook: bool) -> Iterator[Finding]:
    """Assess live processes, alerts, unreadable jobs and, with a webhook, unsent alert messages."""
    running = f"Running processes: {', '.join(f'{state.processes.get(kind, 0)} {kind}' for kind in ('web', 'worker'))}."
    if all(state.processes.get(kind, 0) for kind in ("web", "worker")):
        yield ok("processes", running, **state.processes)
    else:
        yield warning(
            "processes",
            f"{running} Without a web process HubSpot's requests fail; without a worker events stay queued. Start what "
            "is missing.",
            **state.processes,
        )
    yield from _assess_alerts(state.alerts)
    if not state.alerts:
        yield ok("alerts", "No alert is active.")
    if state.unreadable_jobs:
        yield warning(
            "queue",
            f"{state.unreadable_jobs} queued jobs could not be decoded; they are kept and not processed. Find out "
            "what else writes to this Redis: another program, or another version of Spokes.",
            unreadable=state.unreadable_jobs,
        )
    if has_webhook and state.oldest_unsent_s > _UNSENT_WARNING_S:
        yield warning(
            "alerts",
            f"An alert has not reached ALERT_WEBHOOK_URL for {state.oldest_unsent_s:.0f} s. Check that the URL answers "
            "2xx: `spokes alerts --test`.",
            unsent_s=round(state.oldest_unsent_s),
        )


def assess_secret_ages(ages: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Assess the age of each secret, in days."""
    for name, days in ages:
        if alert_for_age(days):
            yield warning(
                "secrets", f"{name} has been in use for {days} days. Rotate it: see docs/operations.md.", days=days
            )
        else:
            yield ok("secrets", f"{name} has been in use for {days} days.", days=days)
    if not ages:
        yield ok("secrets", "The age of the secrets is unknown: a worker records it when it first sees a secret.")


def assess_persistence(settings: Settings) -> Iterator[Finding]:
    """If Redis is on another host, check that no essential file is on the local disk, which may not be persistent."""
    if not settings.redis_url.get_secret_value():
        return
    if not settings.audit_key.get_secret_value():
        yield warning(
            "secrets",
            "AUDIT_KEY is not set, so each machine generates its own key: duplicate events are admitted, and the audit "
            "chain cannot be verified. Set the same AUDIT_KEY for all processes.",
        )
    if not settings.database_url.get_secret_value():
        yield warning(
            "audit store",
            "DATABASE_URL is not set, so the audit is a file in DATA_DIR, which a dyno loses every day. Set "
            "DATABASE_URL to a PostgreSQL database.",
        )


def _assess_alerts(alerts: Sequence[ActiveAlert]) -> Iterator[Finding]:
    """Return one warning for each alert, with what it concerns: thousands of portals may have the same."""
    subjects: dict[str, list[str]] = {}
    for alert in alerts:
        subjects.setdefault(alert.name, []).extend([alert.subject] if alert.subject else [])
    for alert in {alert.name: alert for alert in alerts}.values():
        concerned = subjects[alert.name]
        more = f" and {len(concerned) - _NAMED} more" if len(concerned) > _NAMED else ""
        names = f" It concerns {', '.join(concerned[:_NAMED])}{more}." if concerned else ""
        sentence = f"{alert.name} is active. {alert.meaning} {alert.advice}{names}"
        yield warning("alerts", sentence, alert=alert.name, subjects=len(concerned))


async def _read_state(redis: Redis) -> ProcessState:
    now_s = time.time()
    live = await redis.zrangebyscore(keys.LIVE_PROCESSES, now_s - PROCESS_TTL_S, "+inf")
    oldest: bytes | None = await redis.lindex(keys.ALERT_OUTBOX, 0)  # type: ignore[misc]  # redis-py types one class for sync and async
    unreadable_jobs = int(await redis.llen(keys.UNREADABLE_JOBS))  # type: ignore[misc]  # as above
    sent_at = await read_items(redis, "alert_message", [oldest] if oldest else [], _read_time)
    return ProcessState(
        processes=Counter(member.decode(errors="replace").partition(":")[0] for member in live),
        alerts=await active_alerts(redis, None),
        unreadable_jobs=unreadable_jobs,
        oldest_unsent_s=now_s - sent_at[0] / 1000 if sent_at else 0.0,
    )


def _read_time(message: bytes) -> float:
    return float(orjson.loads(message)["at"])
