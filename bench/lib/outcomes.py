"""What the audit stream says came of events. Rule: it counts what is recorded, and infers nothing."""

from collections import Counter
from dataclasses import dataclass, field

from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.audit.stream import decode
from spokes.core.delivery import AUDIT_STREAM


@dataclass(slots=True)
class Outcomes:
    """How often each outcome was recorded, and of each event how often it ended."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def read(cls, redis: Redis) -> "Outcomes":
        """Read the whole stream."""
        outcomes = cls()
        for _, fields in await redis.xrange(AUDIT_STREAM):
            record = decode(fields[b"r"])
            if record.outcome is None:
                continue
            outcomes.counts[record.outcome.value] += 1
            outcomes.reasons[record.reason] += 1
            if record.outcome in TERMINAL:
                outcomes.ends[record.event_key] += 1
            elif record.outcome == "replayed":
                outcomes.ends[record.event_key] -= 1  # its end was none
        return outcomes

    @property
    def settled_twice(self) -> int:
        """Events that ended more than once."""
        return sum(count > 1 for count in self.ends.values())
