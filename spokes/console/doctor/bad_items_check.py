"""Report what the other checks could not read in Redis."""

from collections.abc import Iterator, Mapping
from typing import Final

from spokes.console.doctor.findings import Finding, fault, warning
from spokes.core.redis.key_types import wrong_type_sentence

TOPIC: Final = "redis"
_KEY_PREFIX: Final = "spokes:"


def assess_bad_items(counts: Mapping[str, int]) -> Iterator[Finding]:
    """Assess unreadable items; `counts` has their number by kind, or by key if the key holds another type of value."""
    keys = sorted(name for name in counts if name.startswith(_KEY_PREFIX))
    if keys:
        yield fault(TOPIC, wrong_type_sentence(keys), keys=keys)
    kinds = {name: count for name, count in sorted(counts.items()) if name not in keys}
    if kinds:
        listed = ", ".join(f"{name} ({count})" for name, count in kinds.items())
        yield warning(
            TOPIC,
            f"Items in Redis are unreadable and were skipped: {listed}. Find out what else writes to this "
            "Redis, or which version of Spokes wrote them.",
            **kinds,
        )
