"""`BackfillCheckpoint`: how far a backfill has come, and its form in SQL. Pure."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from spokes.backfill.window_walk import Counted, Walk, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillCheckpoint:
    """What is left to read.

    Attributes:
        walk: over the records that exist.
        archived_after: the cursor of the next page of the recycle bin.
        archived_done: whether the recycle bin was read, or need not be.
    """

    walk: Walk
    archived_after: str = ""
    archived_done: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to read."""
        return self.walk.is_finished and self.archived_done

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self))  # writes named tuples as lists

    @classmethod
    def from_json(cls, text: str) -> "BackfillCheckpoint":
        """Return a checkpoint in its stored form."""
        fields: dict[str, Any] = json.loads(text)
        walk = fields["walk"]
        return cls(
            walk=Walk(
                windows=tuple(Window(*window) for window in walk["windows"]),
                after_id=walk["after_id"],
                seen=walk["seen"],
                counted=tuple(Counted(Window(*window), seen) for window, seen in walk["counted"]),
                unproven=walk["unproven"],
                owed=walk.get("owed"),  # earlier versions wrote none
            ),
            archived_after=fields["archived_after"],
            archived_done=fields["archived_done"],
        )


@dataclass(slots=True)
class Counts:
    """What a backfill did so far.

    Attributes:
        expected: records that HubSpot counted before the start.
        records: records that were read; one that is read again counts again.
        events: events that were made of them.
        admitted: events that were new.
        known: events that were known already.
        gone: records that were deleted or merged between the search and the read.
        calls: calls to HubSpot, by kind.
    """

    expected: int = 0
    records: int = 0
    events: int = 0
    admitted: int = 0
    known: int = 0
    gone: int = 0
    calls: dict[str, int] = field(default_factory=dict)

    def count_call(self, kind: str) -> None:
        """Count one call."""
        self.calls[kind] = self.calls.get(kind, 0) + 1

    def to_json(self) -> str:
        """Return the stored form."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Counts":
        """Return counts in their stored form."""
        return cls(**json.loads(text))
