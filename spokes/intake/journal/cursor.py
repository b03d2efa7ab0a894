"""How far the journal has been read: `Cursor`, and where Redis keeps it.

The cursor is beside the queue on purpose: a Redis that loses its last second loses the cursor's move along with the
events that were admitted before it, never the events alone. A lost cursor means that the journal is read again from its
earliest page; the dedupe marks then drop what is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from redis.asyncio import Redis

from spokes.core.json_reading.json_fields import read_bigint
from spokes.core.redis.keys import JOURNAL_CURSOR, JOURNAL_READER
from spokes.core.redis.scripts import read_script

KEPT_MS: Final = 60 * 3_600_000  # the journal keeps three days; this much of it is certain
_FIELDS: Final = ("offset", "read_until", "lost_since", "restarts", "known_offset")
_SCRIPT: Final = read_script(__file__, "cursor.lua")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last page whose events are all admitted. Times are epoch ms, 0 if unknown.

    Attributes:
        offset: of that page; empty to start at the earliest page that the journal keeps.
        read_until: everything that HubSpot published before is admitted.
        lost_since: since when entries may be missing, because the journal did not know the offset any more. The first
            page read afterwards decides it.
        restarts: how often the reader began at the earliest page since it last had nothing more to read.
        known_offset: the last one for which HubSpot named a following page; empty at the earliest page.
    """

    offset: str = ""
    read_until: int = 0
    lost_since: int = 0
    restarts: int = 0
    known_offset: str = ""

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Return the cursor in the fields of its Redis hash; unreadable fields are absent."""

        def number(name: bytes) -> int:
            return max(0, read_bigint(fields.get(name, b"").decode(errors="replace")) or 0)

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode(errors="replace")

        return cls(
            text(b"offset"), number(b"read_until"), number(b"lost_since"), number(b"restarts"), text(b"known_offset")
        )

    @property
    def fields(self) -> tuple[str | int, ...]:
        """The names and values in Redis."""
        return tuple(part for name in _FIELDS for part in (name, getattr(self, name)))

    def age_ms(self, now_ms: int) -> int:
        """Return how far the reader is behind; 0 if the journal has never been read."""
        return max(0, now_ms - self.read_until) if self.read_until else 0


async def load_cursor(redis: Redis) -> Cursor:
    """Return the cursor; an empty one if the journal has never been read.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return Cursor.from_fields(await redis.hgetall(JOURNAL_CURSOR))  # type: ignore[misc]  # redis-py types one class for sync and async


async def replace_cursor(redis: Redis, token: str, expected: Cursor, cursor: Cursor) -> bool:
    """Replace the cursor; return False, and change nothing, if the lease or the cursor is another reader's by now.

    Raises:
        RedisError, OSError: Redis does not answer; the cursor may be replaced.
    """
    args: tuple[str | int, ...] = (token, expected.offset, *cursor.fields)
    return bool(await redis.eval(_SCRIPT, 2, JOURNAL_CURSOR, JOURNAL_READER, *map(str, args)))  # type: ignore[misc]  # as above
