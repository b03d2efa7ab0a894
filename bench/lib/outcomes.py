"""Counts of the event outcomes recorded in the audit stream."""

from collections import Counter
from dataclasses import dataclass, field

from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.audit.stream import decode
from spokes.core.redis.keys import AUDIT_STREAM


@dataclass(slots=True)
class StreamOutcomes:
    """How often each outcome and reason was recorded, and how many final outcomes each event has."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    final_counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def read(cls, redis: Redis) -> "StreamOutcomes":
        """Read the whole stream."""
        outcomes = cls()
        for _, fields in await redis.xrange(AUDIT_STREAM):
            record = decode(fields[b"r"])
            if record.outcome is None:
                continue
            outcomes.counts[record.outcome.value] += 1
            outcomes.reasons[record.reason] += 1
            if record.outcome in TERMINAL:
                outcomes.final_counts[record.event_key] += 1
            elif record.outcome == "replayed":
                outcomes.final_counts[record.event_key] -= 1  # a replayed dead letter has no final outcome yet
        return outcomes

    @property
    def settled_twice(self) -> int:
        """The number of events with more than one final outcome."""
        return sum(count > 1 for count in self.final_counts.values())
