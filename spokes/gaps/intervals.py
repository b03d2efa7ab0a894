"""How reports and proofs change the gaps of one subject. Pure.

Open gaps of one subject neither overlap nor touch. A part of a gap ends only in a closed gap with a proof.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from spokes.gaps.gap import Gap, GapCause, MissedInterval, ProvenInterval


class GapChanges(NamedTuple):
    """What to store: gaps that are new or changed, and the ids of gaps that others have absorbed."""

    stored: tuple[Gap, ...] = ()
    absorbed: tuple[str, ...] = ()

    @property
    def closed(self) -> tuple[Gap, ...]:
        """The gaps that the change closed."""
        return tuple(gap for gap in self.stored if gap.proof is not None)


def widen(open_gaps: Sequence[Gap], missed: MissedInterval, *, now_ms: int, new_id: Callable[[], str]) -> GapChanges:
    """Return the change that makes `missed` a part of the open gaps.

    Args:
        open_gaps: of the subject that `missed` names, in any order.
        now_ms: epoch ms.
        new_id: returns an id for a new gap.
    """
    if missed.until <= missed.since:
        return GapChanges()
    touching = sorted(
        (gap for gap in open_gaps if gap.since <= missed.until and missed.since <= gap.until),
        key=lambda gap: (gap.opened_at, gap.since),
    )
    causes: dict[GapCause, None] = dict.fromkeys(cause for gap in touching for cause in gap.causes)
    causes[missed.cause] = None
    merged = Gap(
        id=touching[0].id if touching else new_id(),
        portal_id=missed.portal_id,
        scope=missed.scope,
        since=min([missed.since, *(gap.since for gap in touching)]),
        until=max([missed.until, *(gap.until for gap in touching)]),
        causes=tuple(sorted(causes)),
        opened_at=touching[0].opened_at if touching else now_ms,
    )
    if touching == [merged]:
        return GapChanges()
    return GapChanges((merged,), tuple(gap.id for gap in touching[1:]))


def cover(open_gaps: Sequence[Gap], proven: ProvenInterval, *, now_ms: int, new_id: Callable[[], str]) -> GapChanges:
    """Return the change that closes what `proven` covers; what it does not cover stays open.

    Args:
        open_gaps: of any subjects.
        now_ms: epoch ms.
        new_id: returns an id for a part of a gap.
    """
    stored: list[Gap] = []
    for gap in open_gaps:
        since, until = max(gap.since, proven.since), min(gap.until, proven.until)
        if since >= until or not proven.covers(gap):
            continue
        closed = replace(
            gap, since=since, until=until, proof=proven.proof, closed_at=now_ms, closed_by=proven.closed_by,
            reason=proven.reason, backfill=proven.backfill,
        )  # fmt: skip
        remaining = [replace(gap, until=since), replace(gap, since=until)]
        pieces = [*(part for part in remaining if part.since < part.until), closed]
        stored += [pieces[0], *(replace(part, id=new_id()) for part in pieces[1:])]
    return GapChanges(tuple(stored))
