"""Report what the other checks could not read in Redis."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from spokes.console.doctor.findings import Finding, fault, warning
from spokes.core.redis.key_types import wrong_type_sentence

TOPIC: Final = "redis"
_KEY_PREFIX: Final = "spokes:"


def assess_bad_items(counts: Mapping[str, int], *, named: Collection[str] = ()) -> Iterator[Finding]:
    """Assess unreadable items.

    Args:
        counts: their number by kind, or by key if the key holds another type of value.
        named: the keys that another finding names.
    """
    keys = sorted(name for name in counts if name.startswith(_KEY_PREFIX))
    if unnamed := [key for key in keys if key not in named]:
        yield fault(TOPIC, wrong_type_sentence(unnamed), keys=unnamed)
    kinds = {name: count for name, count in sorted(counts.items()) if name not in keys}
    if kinds:
        listed = ", ".join(f"{name} ({count})" for name, count in kinds.items())
        yield warning(
            TOPIC,
            f"Items in Redis are unreadable and were skipped: {listed}. Find out what else writes to this "
            "Redis, or which version of Spokes wrote them.",
            **kinds,
        )
