"""Look for what is unusual: volumes, old secrets, tokens in Redis. Rule: deciding is pure, only changes are told."""

import re
import time
from collections import Counter
from typing import Any, Final

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import Episodes
from spokes.audit.hourly_counts import HOUR_MS, Volume, volumes
from spokes.audit.stream import backlog
from spokes.core.delivery import unpack
from spokes.core.errors import UnreadableDelivery
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.secret_ages import OLD, SECRETS, fingerprints, secret_alert
from spokes.privacy.requests import State, requests

_DAY_H: Final = 24
_BASELINE_DAYS: Final = 7
_TIMES: Final = 4  # as much as on a usual day
_FEW: Final = 20  # in 24 hours are never unusual by comparison alone
_RECOUNTED: Final = 3  # hours; records may reach the store late
_KEEP_S: Final = (_BASELINE_DAYS + 2) * 86_400
_DAY_MS: Final = 86_400_000
_DUE_SOON_MS: Final = 7 * _DAY_MS
_CURSOR: Final = "spokes:watch:cursor"
_SAMPLE: Final = 2_000  # keys in one look
_GROUP: Final = 50  # of which share round trips; what they hold is in memory together
_LONGEST: Final = 65_536  # bytes of one value
_MARKS: Final = (b"pat-", b"eyj")  # every token has one of them, and looking for it costs a fifth of the pattern
_TOKEN: Final = re.compile(rb"\bpat-[a-z]{2}\d?-[0-9a-f-]{8,}|\beyJ[\w-]{10,}\.[\w-]+\.", re.IGNORECASE)


def is_unusual(today: int, per_day: float, ceiling: int) -> bool:
    """Return whether a volume of 24 hours is an alert.

    Args:
        per_day: how many there were on each of the days before, on average.
        ceiling: as many are an alert whatever was usual.
    """
    return today >= ceiling or (today > _FEW and per_day > 0 and today > _TIMES * per_day)


async def watch_volumes(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: Episodes) -> None:
    """Compare the last 24 hours with the week before them and with the ceilings.

    Raises:
        AuditUnavailable, RedisError: who knows the figures does not answer.
    """
    now = time.time_ns() // 1_000_000 // HOUR_MS
    hours = [await _hour(redis, engine, hour, now) for hour in range(now - _DAY_H * (_BASELINE_DAYS + 1) + 1, now + 1)]
    today: Counter[str] = sum(hours[-_DAY_H:], Counter())
    before: Counter[str] = sum(hours[:-_DAY_H], Counter())
    for volume in Volume:
        ceiling = getattr(settings, f"watch_{volume.value}")
        per_day = before[volume] / _BASELINE_DAYS
        await episodes.tell(
            Alert(f"unusual_{volume.value}"),
            stands=is_unusual(today[volume], per_day, ceiling),
            in_24_hours=today[volume], usual=round(per_day, 1), ceiling=ceiling,
        )  # fmt: skip


async def watch_secrets(settings: Settings, redis: Redis, episodes: Episodes) -> None:
    """Warn of secrets that have been in use for long; of each only a fingerprint is kept."""
    now_ms = time.time_ns() // 1_000_000
    prints = fingerprints(settings)
    for print_ in prints:
        await redis.hsetnx(SECRETS, print_, str(now_ms))  # type: ignore[misc]  # redis-py types one class for sync and async
    seen: dict[bytes, bytes] = await redis.hgetall(SECRETS)  # type: ignore[misc]  # as above
    for print_, since in ((name.decode(), int(at)) for name, at in seen.items()):
        days = (now_ms - since) // _DAY_MS
        told = secret_alert(days) if print_ in prints else None
        for _, alert, level in OLD:
            fields: dict[str, Any] = {"variable": prints.get(print_, ""), "days": days}
            await episodes.tell(alert, of=print_, stands=alert == told, level=level, **fields)
        if print_ not in prints:
            await redis.hdel(SECRETS, print_)  # type: ignore[misc]  # as above


async def watch_tokens(settings: Settings, redis: Redis, episodes: Episodes) -> None:
    """Look through a sample of Redis for tokens in plain text, each time where the last look ended."""
    cursor = int(await redis.get(_CURSOR) or 0)
    cursor, names = await redis.scan(cursor, count=_SAMPLE)
    await redis.set(_CURSOR, cursor)
    secrets = [secret.encode() for secret in settings.secrets if secret]
    found: list[bytes] = []
    for start in range(0, len(names), _GROUP):
        group = names[start : start + _GROUP]
        contents = await _contents(redis, group)
        found += [name for name, content in zip(group, contents, strict=True) if _shows(content, secrets)]
    kinds = sorted({re.sub(r"[0-9a-f-]{6,}", "*", name.decode(errors="replace")) for name in found})
    # A look covers a part only; the alert ends when a look from the beginning to the end has found none.
    if found:
        await redis.set(f"{_CURSOR}:found", 1)
    clean = not found and cursor == 0 and not await redis.getdel(f"{_CURSOR}:found")
    if found or clean:
        await episodes.tell(Alert.TOKEN_IN_REDIS, stands=bool(found), keys=kinds[:10], count=len(found))


async def watch_backlog(settings: Settings, redis: Redis, episodes: Episodes) -> None:
    """Warn while too many records wait for the store."""
    waiting = await backlog(redis)
    await episodes.tell(Alert.AUDIT_BACKLOG, stands=waiting >= settings.audit_backlog, waiting=waiting)


async def watch_requests(engine: AsyncEngine, episodes: Episodes) -> None:
    """Warn of requests of people that are due within a week and not done."""
    soon = time.time_ns() // 1_000_000 + _DUE_SOON_MS
    late = [asked.id for asked in await requests(engine, state=State.OPEN) if asked.due_at < soon]
    await episodes.tell(Alert.PRIVACY_REQUEST_DUE, stands=bool(late), requests=late)


async def _hour(redis: Redis, engine: AsyncEngine, hour: int, now: int) -> Counter[str]:
    """The volumes of an hour; those of hours long over are kept in Redis."""
    key = f"spokes:watch:volumes:{hour}"
    if hour < now - _RECOUNTED and (kept := await redis.hgetall(key)):  # type: ignore[misc]  # redis-py types one class for sync and async
        return Counter({name.decode(): int(count) for name, count in kept.items()})
    counted = await volumes(engine, hour)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, mapping={volume.value: counted[volume] for volume in Volume})
        pipeline.expire(key, _KEEP_S)
        await pipeline.execute()
    return counted


def _shows(content: bytes, secrets: list[bytes]) -> bool:
    lower = content.lower()
    if any(mark in lower for mark in _MARKS) and _TOKEN.search(content):
        return True
    return any(secret in content for secret in secrets)


async def _contents(redis: Redis, names: list[bytes]) -> list[bytes]:
    """The beginning of what each key holds, unpacked where it is a payload of ours."""
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        for name, kind in zip(names, await pipeline.execute(), strict=True):
            match kind:
                case b"string":
                    pipeline.getrange(name, 0, _LONGEST)
                case b"hash":
                    pipeline.hscan(name, count=100)
                case b"stream":
                    pipeline.xrevrange(name, count=100)
                case b"list":
                    pipeline.lrange(name.decode(), 0, 20)
                case _:
                    pipeline.exists(name)  # a set or sorted set, of names
        # One may hold something else by now; what the error says then is not looked at.
        return [_text(held) for held in await pipeline.execute(raise_on_error=False)]


def _text(held: object) -> bytes:
    if not isinstance(held, bytes):
        return repr(held).encode()
    try:
        return unpack(held)
    except UnreadableDelivery:
        return held
