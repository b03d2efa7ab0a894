"""One day's data of a small company in Redis and the audit store, invented and seeded.

For tests, names and values that other people choose contain scripts; for screenshots they are harmless.
"""

import math
import time
from random import Random
from typing import Any, Final

from prometheus_client import Counter, Histogram
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.archiver import Archiver
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, METRIC_TOTALS
from spokes.core.telemetry import metric_history as minutes
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metric_history import Snapshot
from spokes.core.telemetry.metric_totals import sample_key
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS, CRM_CALLS, EVENTS, OUTCOMES
from spokes.crm.transport.rate_budget import CALL_KINDS, RateBudget
from spokes.privacy.requests import ErasureRequest, Law, add_request
from spokes.queue.dead_letters import DeadLetter, store_commands

PORTAL: Final = 50112233
CONTACT: Final = "318845120771"
LETTER: Final = f"{501:032x}"  # the event key of the first dead letter
SCRIPT: Final = "<script>window.broken=1</script><img src=x onerror=window.broken=1>"
_HANDLERS: Final = ("contacts.keep_reachable", "contacts.greet", "deals.hand_over", "companies.keep_tidy")
_MINUTE: Final = 60_000


def now() -> int:
    return clock.now_ms()


def webhook_event(number: int, **fields: object) -> dict[str, object]:
    """Return an event as HubSpot sends it."""
    return {
        "eventId": 3_816_279_000 + number,
        "subscriptionId": 4410001,
        "portalId": PORTAL,
        "appId": 7788990,
        "occurredAt": now() - 4_000 - number * 137,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 318845120000 + number,
        "propertyName": "phone",
        "propertyValue": "+1 555 0100",
        "changeSource": "CRM_UI",
        **fields,
    }


async def store_metrics(redis: Redis) -> None:
    """Store an hour of metrics: a slow wave, an import in the middle, and workers that catch up."""
    random, sums = Random(7), dict[str, float]()
    backlog = 0.0
    for at in range(61):
        received = 260 + 90 * math.sin(at / 9) + random.uniform(-25, 25) + (620 if 30 <= at < 36 else 0)
        backlog += received
        ended = min(backlog, 480 + random.uniform(-20, 20))
        backlog -= ended
        add_sample(sums, EVENTS, received * 0.94, result="admitted")
        add_sample(sums, EVENTS, received * 0.06, result="duplicate")
        for share, handler in zip((0.5, 0.2, 0.2, 0.1), _HANDLERS, strict=True):
            for rate, outcome in ((0.86, "processed"), (0.08, "coalesced"), (0.04, "superseded"), (0.02, "echo")):
                add_sample(sums, OUTCOMES, ended * share * rate, handler=handler, outcome=outcome)
        add_sample(sums, OUTCOMES, random.randint(2, 9), handler="deals.hand_over", outcome="retried")
        add_sample(sums, OUTCOMES, random.random() < 0.3, handler="contacts.greet", outcome="dead")
        add_sample(sums, CRM_CALLS, ended / 6, method="POST", outcome="answered")
        add_sample(
            sums,
            CRM_CALLS,
            14 if 32 <= at < 36 else random.random() < 0.4,
            method="POST",
            outcome="rate_limited",
        )
        add_sample(sums, BUDGET_WAIT_SECONDS, ended / 70, "_sum", kind="calls")
        await minutes.append_snapshot(redis, Snapshot(now() - (61 - at) * _MINUTE + 20_000, dict(sums)))
    await redis.hset(METRIC_TOTALS, mapping={name: str(value) for name, value in sums.items()})
    await add_events(redis, 230)


async def add_events(redis: Redis, events: float) -> None:
    """Count `events` more as received and ended."""
    await redis.hincrbyfloat(METRIC_TOTALS, sample_key(EVENTS, result="admitted"), events)
    await redis.hincrbyfloat(
        METRIC_TOTALS, sample_key(OUTCOMES, handler=_HANDLERS[0], outcome="processed"), events * 0.95
    )
    await redis.hincrbyfloat(METRIC_TOTALS, sample_key(CRM_CALLS, method="POST", outcome="answered"), events / 6)
    await redis.hincrbyfloat(METRIC_TOTALS, sample_key(BUDGET_WAIT_SECONDS, "_sum", kind="calls"), events / 70)


def add_sample(
    sums: dict[str, float], metric: Counter | Histogram, value: float, suffix: str = "", /, **labels: str
) -> None:
    key = sample_key(metric, suffix, **labels)
    sums[key] = sums.get(key, 0.0) + round(value)


async def enqueue_deliveries(redis: Redis) -> None:
    """Queue deliveries, some due and some scheduled."""
    for number in range(46):
        delivery = Delivery(
            f"{PORTAL}-{now():x}-{number:010x}", PORTAL, now(), (Entry(f"{number:032x}", 0, webhook_event(number)),)
        )
        await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now()))
        await redis.zadd(JOB_QUEUE, {delivery.id: now() + (number - 6) * 9_000})


async def use_rate_budget(redis: Redis) -> None:
    """Use slots of the rate budget; they are free again after ten seconds."""
    budget = RateBudget(redis, limit=100, search_limit=5)
    await redis.zadd(keys.BUDGET_PORTALS, {str(PORTAL): time.time() + 3600})
    states = await budget.state(PORTAL)
    for kind, used in zip(CALL_KINDS, (84, 1, 12), strict=True):
        for _ in range(used - states[kind].used):
            async with budget.slot(PORTAL, kind):
                pass


async def store_letters(redis: Redis, value: str) -> None:
    """Store dead letters of three causes."""
    causes = (
        ("object_not_found", _HANDLERS[0], 11),
        ("handler_error:ValueError", _HANDLERS[1], 3),
        ("not_permitted", _HANDLERS[2], 1),
    )
    number = 500
    for reason, handler, count in causes:
        for _ in range(count):
            number += 1
            entry = Entry(
                f"{number:032x}", 7 if reason == "object_not_found" else 3, webhook_event(number, propertyValue=value)
            )
            letter = DeadLetter(PORTAL, f"{PORTAL}-19ab-{number:010x}", entry, reason, handler, now() - number * 71_000)
            for command in store_commands(letter, ttl_s=86_400):
                await redis.execute_command(*command)


def contact_history(error: str) -> list[AuditRecord]:
    """Return the audit records of one contact; `error` is the class of a handler's exception."""
    key, delivery = "0f3a" * 8, f"{PORTAL}-19ab3cf1-01ab45cd67"
    common: dict[str, Any] = {
        "portal_id": PORTAL,
        "object_type": "contact",
        "object_id": CONTACT,
        "event_key": key,
        "delivery_id": delivery,
        "handler": _HANDLERS[0],
        "subscription_type": "contact.propertyChange",
    }
    counts = {"received": 9, "admitted": 6, "duplicate": 1, "ignored": {"contact.deletion": 2}, "set_aside": 0}
    write = {"method": "contacts.update", "properties": ["phone"], "ok": True}
    start = now() - 26 * 3_600_000
    other = {**common, "event_key": "77aa" * 8, "delivery_id": delivery + "b"}
    return [
        AuditRecord(
            **{**common, "event_key": "1c0d" * 8, "subscription_type": "contact.creation", "handler": _HANDLERS[1]},
            action=Action.EVENT,
            outcome=Outcome.PROCESSED,
            attempt=1,
            at=start,
        ),
        AuditRecord(
            action=Action.DELIVERY_RECEIVED,
            portal_id=PORTAL,
            delivery_id=delivery,
            detail=counts,
            at=start + 80_000_000,
        ),
        AuditRecord(
            **common,
            action=Action.EVENT,
            outcome=Outcome.RETRIED,
            reason="rate_limited",
            attempt=1,
            detail={"delay_s": 2},
            at=start + 80_000_700,
        ),
        AuditRecord(**common, action=Action.CRM_WRITE, detail=write, at=start + 80_003_100, correlation_id="8f2c"),
        AuditRecord(**common, action=Action.EVENT, outcome=Outcome.PROCESSED, attempt=2, at=start + 80_003_200),
        AuditRecord(
            **{**other, "event_key": "88bb" * 8},
            action=Action.EVENT,
            outcome=Outcome.ECHO,
            reason="own_write",
            at=start + 80_009_000,
        ),
        AuditRecord(
            **other,
            action=Action.EVENT,
            outcome=Outcome.DEAD,
            reason=f"handler_error:{error}",
            attempt=3,
            at=start + 88_000_000,
        ),
        AuditRecord(
            **other,
            action=Action.EVENT,
            outcome=Outcome.REPLAYED,
            reason="number format fixed",
            actor="ada",
            at=start + 89_000_000,
        ),
        AuditRecord(**other, action=Action.EVENT, outcome=Outcome.PROCESSED, attempt=1, at=start + 89_000_900),
    ]


async def fill(redis: Redis, engine: AsyncEngine, key: str, *, hostile: bool) -> None:
    """Store the whole day in Redis and the audit store; `key` signs the chain."""
    await store_metrics(redis)
    await enqueue_deliveries(redis)
    await store_letters(redis, SCRIPT if hostile else "+1 555 0100")
    await use_rate_budget(redis)
    await AlertEpisodes(redis).set_state(Alert.UNUSUAL_DEAD_LETTERS, is_active=True, portal_id=PORTAL, count=15)
    pipeline = redis.pipeline()
    for record in contact_history(SCRIPT if hostile else "ValueError"):
        append(pipeline, record)
    await pipeline.execute()
    archiver = Archiver(redis, engine, key)
    await archiver.run_once()
    await archiver.drain()
    day = 86_400_000
    await add_request(engine, ErasureRequest(PORTAL, "h1", ("318845120912",), Law.GDPR, "grace", now() - 26 * day))
    await add_request(engine, ErasureRequest(PORTAL, "h2", ("318845121333",), Law.CCPA, "ada", now() - 6 * day))
    await add_request(engine, ErasureRequest(PORTAL, "h3", ("318845119001",), Law.CCPA, "ada", now() - 50 * day))
    await add_request(
        engine, ErasureRequest(PORTAL, "h4", ("318845119771",), Law.GDPR, "ada", now() - 20 * day).as_done()
    )
