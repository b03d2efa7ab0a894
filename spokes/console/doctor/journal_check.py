"""Check how far HubSpot's journal has been read, and whether a reader runs."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, ok, warning
from spokes.core import clock
from spokes.core.redis.keys import JOURNAL_CURSOR, JOURNAL_READER
from spokes.core.settings import Settings
from spokes.core.settings.cross_checks import journal_problems
from spokes.intake.journal.cursor import load_cursor

_TOPIC: Final = "journal"
_LATE_MS: Final = 15 * 60_000
_MINUTE_MS: Final = 60_000


async def check_journal(settings: Settings, redis: Redis) -> list[Finding]:
    """Return one finding where the journal is read, or was, and those about its settings; none elsewhere."""
    try:
        is_known, has_reader = await redis.exists(JOURNAL_CURSOR), await redis.exists(JOURNAL_READER)
        cursor = await load_cursor(redis)
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    if not (settings.journal or is_known or has_reader):
        return []
    problems = [warning(_TOPIC, sentence) for sentence in journal_problems(settings)]
    age_ms = cursor.age_ms(clock.now_ms())
    until = f"HubSpot's journal is read up to {age_ms // _MINUTE_MS:,} minutes ago" if cursor.read_until else (
        "HubSpot's journal was never read"
    )  # fmt: skip
    fields = {"age_s": age_ms // 1000, "reader": bool(has_reader)}
    if not has_reader:
        advice = (
            "No reader runs: scale the process `journal` to 1, or set JOURNAL=1. If the journal shall not be read any "
            f"more, delete the Redis key `{JOURNAL_CURSOR}`."
        )
        return [*problems, warning(_TOPIC, f"{until}. {advice}", **fields)]
    if age_ms > _LATE_MS or not cursor.read_until:
        return [*problems, warning(_TOPIC, f"{until}. `journal_read_failed` in the reader's log says why.", **fields)]
    return [*problems, ok(_TOPIC, f"{until}, and a reader runs.", **fields)]
