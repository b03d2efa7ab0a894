"""Watch for unusual volumes, old secrets, tokens in Redis, a growing audit backlog and privacy requests that are due.

Each watch sets the state of an alert; only changes are reported.
"""

import re
from collections import Counter
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import read_items
from spokes.audit.hourly_counts import HOUR_MS, HourlyCount, hourly_counts
from spokes.audit.stream import backlog
from spokes.core import clock
from spokes.core.delivery import decompress
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis import keys
from spokes.core.redis.keys import SECRETS_FIRST_SEEN
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.secret_ages import AGE_ALERTS, alert_for_age, secret_fingerprints
from spokes.privacy.requests import RequestState, load_requests
from spokes.queue.running_deliveries import running_deliveries

_DAY_H: Final = 24
_BASELINE_DAYS: Final = 7
_UNUSUAL_FACTOR: Final = 4  # times the daily average
_NEVER_UNUSUAL: Final = 20  # this many in 24 hours are no alert, even far above the average
_RECOUNT_HOURS: Final = 3  # records may reach the audit store late
_COUNTS_TTL_S: Final = (_BASELINE_DAYS + 2) * 86_400
_DAY_MS: Final = 86_400_000
_DUE_SOON_MS: Final = 7 * _DAY_MS
_SCAN_COUNT: Final = 2_000  # keys per run
_KEYS_PER_ROUND_TRIP: Final = 50  # their values are in memory together
_MAX_VALUE_BYTES: Final = 65_536
_TOKEN_MARKERS: Final = (b"pat-", b"eyj")  # every token contains one; searching for them costs a fifth of the pattern
_TOKEN: Final = re.compile(rb"\bpat-[a-z]{2}\d?-[0-9a-f-]{8,}|\beyJ[\w-]{10,}\.[\w-]+\.", re.IGNORECASE)


def is_unusual(today: int, per_day: float, ceiling: int) -> bool:
    """Return whether the count of the last 24 hours is an alert.

    Args:
        today: the count of the last 24 hours.
        per_day: the daily average of the days before.
        ceiling: a count of this much is always an alert.
    """
    return today >= ceiling or (today > _NEVER_UNUSUAL and per_day > 0 and today > _UNUSUAL_FACTOR * per_day)


async def watch_volumes(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Compare the counts of the last 24 hours with the week before and with the ceilings.

    Raises:
        AuditUnavailable, RedisError: the audit store or Redis does not answer.
    """
    now = clock.now_ms() // HOUR_MS
    first = now - _DAY_H * (_BASELINE_DAYS + 1) + 1
    hours = [await _hourly_count(redis, engine, hour, now) for hour in range(first, now + 1)]
    today: Counter[str] = sum(hours[-_DAY_H:], Counter())
    before: Counter[str] = sum(hours[:-_DAY_H], Counter())
    for count in HourlyCount:
        ceiling = getattr(settings, f"watch_{count.value}")
        per_day = before[count] / _BASELINE_DAYS
        await episodes.set_state(
            Alert(f"unusual_{count.value}"),
            is_active=is_unusual(today[count], per_day, ceiling),
            in_24_hours=today[count], usual=round(per_day, 1), ceiling=ceiling,
        )  # fmt: skip


async def watch_secrets(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Alert about secrets that have been in use for long; only their fingerprints are stored."""
    now_ms = clock.now_ms()
    variables = secret_fingerprints(settings)
    for fingerprint in variables:
        await redis.hsetnx(SECRETS_FIRST_SEEN, fingerprint, str(now_ms))  # type: ignore[misc]  # redis-py types one class for sync and async
    first_seen: dict[bytes, bytes] = await redis.hgetall(SECRETS_FIRST_SEEN)  # type: ignore[misc]  # as above
    for fingerprint, since_ms in await read_items(redis, "secret_age", first_seen.items(), _read_first_seen):
        days = (now_ms - since_ms) // _DAY_MS
        active = alert_for_age(days) if fingerprint in variables else None
        for _, alert, level in AGE_ALERTS:
            fields: dict[str, Any] = {"variable": variables.get(fingerprint, ""), "days": days}
            await episodes.set_state(alert, subject=fingerprint, is_active=alert == active, level=level, **fields)
        if fingerprint not in variables:
            await redis.hdel(SECRETS_FIRST_SEEN, fingerprint)  # type: ignore[misc]  # as above


def _read_first_seen(item: tuple[bytes, bytes]) -> tuple[str, int]:
    return item[0].decode(), int(item[1])


async def watch_tokens(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Search a part of Redis for tokens in plain text; each run continues where the last one stopped."""
    stored = await redis.get(keys.TOKEN_SCAN_CURSOR) or b""
    cursor = int(stored) if stored.isdigit() else 0  # or something else wrote it
    cursor, names = await redis.scan(cursor, count=_SCAN_COUNT)
    await redis.set(keys.TOKEN_SCAN_CURSOR, cursor)
    secrets = [secret.encode() for secret in settings.secret_values if secret]
    leaking: list[bytes] = []
    for start in range(0, len(names), _KEYS_PER_ROUND_TRIP):
        group = names[start : start + _KEYS_PER_ROUND_TRIP]
        values = await _read_values(redis, group)
        leaking += [name for name, value in zip(group, values, strict=True) if _contains_token(value, secrets)]
    patterns = sorted({re.sub(r"[0-9a-f-]{6,}", "*", name.decode(errors="replace")) for name in leaking})
    # One run covers a part of Redis; the alert ends once a whole pass over all keys has found nothing.
    if leaking:
        await redis.set(keys.TOKEN_SCAN_FOUND, 1)
    is_clean_pass = not leaking and cursor == 0 and not await redis.getdel(keys.TOKEN_SCAN_FOUND)
    if leaking or is_clean_pass:
        await episodes.set_state(Alert.TOKEN_IN_REDIS, is_active=bool(leaking), keys=patterns[:10], count=len(leaking))


async def watch_backlog(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Alert while too many audit records wait to be archived."""
    waiting = await backlog(redis)
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=waiting >= settings.audit_backlog, waiting=waiting)


async def watch_running(redis: Redis, episodes: AlertEpisodes) -> None:
    """Alert while a delivery is in progress for longer than its handlers can explain."""
    overdue = [run for run in await running_deliveries(redis) if run.is_overdue]
    handlers = sorted({name for run in overdue for name in run.handlers})
    await episodes.set_state(
        Alert.DELIVERY_OVERDUE, is_active=bool(overdue), deliveries=[run.id for run in overdue[:10]], handlers=handlers
    )


async def watch_requests(engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Alert about open privacy requests that are due within a week."""
    soon_ms = clock.now_ms() + _DUE_SOON_MS
    open_requests = await load_requests(engine, state=RequestState.OPEN)
    due = [request.id for request in open_requests if request.due_at < soon_ms]
    await episodes.set_state(Alert.PRIVACY_REQUEST_DUE, is_active=bool(due), requests=due)


async def _hourly_count(redis: Redis, engine: AsyncEngine, hour: int, now: int) -> Counter[str]:
    """Return the counts of an hour; those of older hours are cached in Redis."""
    key = keys.hourly_counts(hour)
    if hour < now - _RECOUNT_HOURS and (cached := await redis.hgetall(key)):  # type: ignore[misc]  # redis-py types one class for sync and async
        read = await read_items(redis, "hourly_count", cached.items(), lambda item: (item[0].decode(), int(item[1])))
        return Counter(dict(read))
    counts = await hourly_counts(engine, hour)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, mapping={count.value: counts[count] for count in HourlyCount})
        pipeline.expire(key, _COUNTS_TTL_S)
        await pipeline.execute()
    return counts


def _contains_token(value: bytes, secrets: list[bytes]) -> bool:
    lower = value.lower()
    if any(marker in lower for marker in _TOKEN_MARKERS) and _TOKEN.search(value):
        return True
    return any(secret in value for secret in secrets)


async def _read_values(redis: Redis, names: list[bytes]) -> list[bytes]:
    """Return the beginning of each key's value, decompressed if it is a job payload."""
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        for name, type_ in zip(names, await pipeline.execute(), strict=True):
            match type_:
                case b"string":
                    pipeline.getrange(name, 0, _MAX_VALUE_BYTES)
                case b"hash":
                    pipeline.hscan(name, count=100)
                case b"stream":
                    pipeline.xrevrange(name, count=100)
                case b"list":
                    pipeline.lrange(name.decode(), 0, 20)
                case _:
                    pipeline.exists(name)  # a set or sorted set; these hold names only
        # A key may have changed its type since; such an error message is not searched.
        return [_to_bytes(value) for value in await pipeline.execute(raise_on_error=False)]


def _to_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        return repr(value).encode()
    try:
        return decompress(value)
    except UnreadableDelivery:
        return value
