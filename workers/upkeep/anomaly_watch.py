"""Look for what is unusual: volumes, old secrets, tokens in Redis. Rule: deciding is pure, only changes are told."""

import re
from collections import Counter
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.hourly_counts import HOUR_MS, HourlyCount, hourly_counts
from spokes.audit.stream import backlog
from spokes.core import clock
from spokes.core.delivery import decompress
from spokes.core.errors import UnreadableDelivery
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.secret_ages import AGE_ALERTS, SECRETS_FIRST_SEEN, alert_for_age, secret_fingerprints
from spokes.privacy.requests import RequestState, load_requests

_DAY_H: Final = 24
_BASELINE_DAYS: Final = 7
_UNUSUAL_FACTOR: Final = 4  # as much as on a usual day
_NEVER_UNUSUAL: Final = 20  # in 24 hours are never unusual by comparison alone
_RECOUNT_HOURS: Final = 3  # hours; records may reach the store late
_COUNTS_TTL_S: Final = (_BASELINE_DAYS + 2) * 86_400
_DAY_MS: Final = 86_400_000
_DUE_SOON_MS: Final = 7 * _DAY_MS
_CURSOR_KEY: Final = "spokes:watch:cursor"
_SCAN_COUNT: Final = 2_000  # keys in one look
_KEYS_PER_ROUND_TRIP: Final = 50  # of which share round trips; what they hold is in memory together
_MAX_VALUE_BYTES: Final = 65_536  # bytes of one value
_TOKEN_MARKERS: Final = (
    b"pat-",
    b"eyj",
)  # every token has one of them, and looking for it costs a fifth of the pattern
_TOKEN: Final = re.compile(rb"\bpat-[a-z]{2}\d?-[0-9a-f-]{8,}|\beyJ[\w-]{10,}\.[\w-]+\.", re.IGNORECASE)


def is_unusual(today: int, per_day: float, ceiling: int) -> bool:
    """Return whether a volume of 24 hours is an alert.

    Args:
        per_day: how many there were on each of the days before, on average.
        ceiling: as many are an alert whatever was usual.
    """
    return today >= ceiling or (today > _NEVER_UNUSUAL and per_day > 0 and today > _UNUSUAL_FACTOR * per_day)


async def watch_volumes(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Compare the last 24 hours with the week before them and with the ceilings.

    Raises:
        AuditUnavailable, RedisError: who knows the figures does not answer.
    """
    now = clock.now_ms() // HOUR_MS
    hours = [
        await _hourly_count(redis, engine, hour, now)
        for hour in range(now - _DAY_H * (_BASELINE_DAYS + 1) + 1, now + 1)
    ]
    today: Counter[str] = sum(hours[-_DAY_H:], Counter())
    before: Counter[str] = sum(hours[:-_DAY_H], Counter())
    for volume in HourlyCount:
        ceiling = getattr(settings, f"watch_{volume.value}")
        per_day = before[volume] / _BASELINE_DAYS
        await episodes.set_state(
            Alert(f"unusual_{volume.value}"),
            is_active=is_unusual(today[volume], per_day, ceiling),
            in_24_hours=today[volume], usual=round(per_day, 1), ceiling=ceiling,
        )  # fmt: skip


async def watch_secrets(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Warn of secrets that have been in use for long; of each only a fingerprint is kept."""
    now_ms = clock.now_ms()
    prints = secret_fingerprints(settings)
    for print_ in prints:
        await redis.hsetnx(SECRETS_FIRST_SEEN, print_, str(now_ms))  # type: ignore[misc]  # redis-py types one class for sync and async
    seen: dict[bytes, bytes] = await redis.hgetall(SECRETS_FIRST_SEEN)  # type: ignore[misc]  # as above
    for print_, since in ((name.decode(), int(at)) for name, at in seen.items()):
        days = (now_ms - since) // _DAY_MS
        told = alert_for_age(days) if print_ in prints else None
        for _, alert, level in AGE_ALERTS:
            fields: dict[str, Any] = {"variable": prints.get(print_, ""), "days": days}
            await episodes.set_state(alert, subject=print_, is_active=alert == told, level=level, **fields)
        if print_ not in prints:
            await redis.hdel(SECRETS_FIRST_SEEN, print_)  # type: ignore[misc]  # as above


async def watch_tokens(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Look through a sample of Redis for tokens in plain text, each time where the last look ended."""
    cursor = int(await redis.get(_CURSOR_KEY) or 0)
    cursor, names = await redis.scan(cursor, count=_SCAN_COUNT)
    await redis.set(_CURSOR_KEY, cursor)
    secrets = [secret.encode() for secret in settings.secret_values if secret]
    found: list[bytes] = []
    for start in range(0, len(names), _KEYS_PER_ROUND_TRIP):
        group = names[start : start + _KEYS_PER_ROUND_TRIP]
        contents = await _read_values(redis, group)
        found += [name for name, content in zip(group, contents, strict=True) if _contains_token(content, secrets)]
    kinds = sorted({re.sub(r"[0-9a-f-]{6,}", "*", name.decode(errors="replace")) for name in found})
    # A look covers a part only; the alert ends when a look from the beginning to the end has found none.
    if found:
        await redis.set(f"{_CURSOR_KEY}:found", 1)
    clean = not found and cursor == 0 and not await redis.getdel(f"{_CURSOR_KEY}:found")
    if found or clean:
        await episodes.set_state(Alert.TOKEN_IN_REDIS, is_active=bool(found), keys=kinds[:10], count=len(found))


async def watch_backlog(settings: Settings, redis: Redis, episodes: AlertEpisodes) -> None:
    """Warn while too many records wait for the store."""
    waiting = await backlog(redis)
    await episodes.set_state(Alert.AUDIT_BACKLOG, is_active=waiting >= settings.audit_backlog, waiting=waiting)


async def watch_requests(engine: AsyncEngine, episodes: AlertEpisodes) -> None:
    """Warn of requests of people that are due within a week and not done."""
    soon = clock.now_ms() + _DUE_SOON_MS
    late = [asked.id for asked in await load_requests(engine, state=RequestState.OPEN) if asked.due_at < soon]
    await episodes.set_state(Alert.PRIVACY_REQUEST_DUE, is_active=bool(late), requests=late)


async def _hourly_count(redis: Redis, engine: AsyncEngine, hour: int, now: int) -> Counter[str]:
    """The volumes of an hour; those of hours long over are kept in Redis."""
    key = f"spokes:watch:volumes:{hour}"
    if hour < now - _RECOUNT_HOURS and (kept := await redis.hgetall(key)):  # type: ignore[misc]  # redis-py types one class for sync and async
        return Counter({name.decode(): int(count) for name, count in kept.items()})
    counted = await hourly_counts(engine, hour)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, mapping={volume.value: counted[volume] for volume in HourlyCount})
        pipeline.expire(key, _COUNTS_TTL_S)
        await pipeline.execute()
    return counted


def _contains_token(content: bytes, secrets: list[bytes]) -> bool:
    lower = content.lower()
    if any(mark in lower for mark in _TOKEN_MARKERS) and _TOKEN.search(content):
        return True
    return any(secret in content for secret in secrets)


async def _read_values(redis: Redis, names: list[bytes]) -> list[bytes]:
    """The beginning of what each key holds, unpacked where it is a payload of ours."""
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        for name, kind in zip(names, await pipeline.execute(), strict=True):
            match kind:
                case b"string":
                    pipeline.getrange(name, 0, _MAX_VALUE_BYTES)
                case b"hash":
                    pipeline.hscan(name, count=100)
                case b"stream":
                    pipeline.xrevrange(name, count=100)
                case b"list":
                    pipeline.lrange(name.decode(), 0, 20)
                case _:
                    pipeline.exists(name)  # a set or sorted set, of names
        # One may hold something else by now; what the error says then is not looked at.
        return [_to_bytes(held) for held in await pipeline.execute(raise_on_error=False)]


def _to_bytes(held: object) -> bytes:
    if not isinstance(held, bytes):
        return repr(held).encode()
    try:
        return decompress(held)
    except UnreadableDelivery:
        return held
