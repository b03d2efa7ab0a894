"""spokes.gaps.intervals: gaps merge, never overlap, and never vanish without a proof."""

from itertools import count, pairwise

from hypothesis import given
from hypothesis import strategies as st

from spokes.gaps.gap import Gap, GapCause, MissedInterval, Proof, ProvenInterval
from spokes.gaps.intervals import GapChanges, cover, widen

TIME = st.integers(0, 60)
PORTAL = st.sampled_from([1, 2])
MISSED = st.builds(
    lambda portal, since, length, cause: MissedInterval(
        portal_id=portal, scope="contact", since=since, until=since + length, cause=cause
    ),
    PORTAL, TIME, st.integers(0, 20), st.sampled_from(GapCause),
)  # fmt: skip
PROVEN = st.builds(
    lambda portal, scope, since, length, proof: ProvenInterval(
        portal_id=portal, scope=scope, since=since, until=since + length, proof=proof
    ),
    st.sampled_from([0, 1, 2]), st.sampled_from(["", "contact", "deal"]), TIME, st.integers(0, 30),
    st.sampled_from(Proof),
)  # fmt: skip
STEPS = st.lists(MISSED | PROVEN, max_size=25)


class Book:
    """Gaps as the ledger keeps them, beside a model: the open and the proven moments of each portal."""

    def __init__(self) -> None:
        self.gaps: dict[str, Gap] = {}
        self.open_moments: set[tuple[int, int]] = set()
        self.reported: set[tuple[int, int]] = set()
        self._ids = map(str, count())

    def open(self, portal_id: int | None = None) -> list[Gap]:
        return [gap for gap in self.gaps.values() if gap.proof is None and portal_id in {None, gap.portal_id}]

    def apply(self, step: MissedInterval | ProvenInterval) -> GapChanges:
        if isinstance(step, MissedInterval):
            known = self.open(step.portal_id)
            change = widen(known, step, now_ms=1, new_id=self._ids.__next__)
            moments = {(step.portal_id, moment) for moment in range(step.since, step.until)}
            self.open_moments |= moments
            self.reported |= moments
        else:
            change = cover(self.open(), step, now_ms=2, new_id=self._ids.__next__)
            portals = {1, 2} if step.portal_id == 0 else {step.portal_id}
            if step.scope in {"", "contact"}:
                self.open_moments -= {(p, moment) for p in portals for moment in range(step.since, step.until)}
        for gap_id in change.absorbed:
            del self.gaps[gap_id]
        self.gaps |= {gap.id: gap for gap in change.stored}
        return change


def moments(gaps: list[Gap]) -> list[tuple[int, int]]:
    return [(gap.portal_id, moment) for gap in gaps for moment in range(gap.since, gap.until)]


@given(STEPS)
def test_open_gaps_neither_overlap_nor_touch(steps: list[MissedInterval | ProvenInterval]) -> None:
    book = Book()
    for step in steps:
        book.apply(step)
        for portal_id in (1, 2):
            gaps = sorted(book.open(portal_id), key=lambda gap: gap.since)
            assert all(gap.since < gap.until for gap in gaps)
            assert all(first.until < second.since for first, second in pairwise(gaps))


@given(STEPS)
def test_open_gaps_are_what_was_reported_and_not_proven_since(steps: list[MissedInterval | ProvenInterval]) -> None:
    book = Book()
    for step in steps:
        book.apply(step)
        open_moments = moments(book.open())
        assert len(open_moments) == len(set(open_moments))
        assert set(open_moments) == book.open_moments


@given(STEPS)
def test_no_moment_vanishes_without_a_proof(steps: list[MissedInterval | ProvenInterval]) -> None:
    book = Book()
    for step in steps:
        before = set(moments(book.open()))
        change = book.apply(step)
        ended = before - set(moments(book.open()))
        assert ended <= set(moments(list(change.closed)))
        assert set(moments(list(book.gaps.values()))) >= book.reported
        assert all(gap.proof and gap.closed_at for gap in change.closed)


def test_merged_gap_keeps_the_first_id_and_all_causes() -> None:
    book = Book()
    for since, cause in ((0, GapCause.NO_TRAFFIC), (20, GapCause.DELIVERIES_REFUSED), (10, GapCause.NO_WEB_PROCESS)):
        book.apply(MissedInterval(portal_id=1, scope="contact", since=since, until=since + 10, cause=cause))
    (gap,) = book.open()
    assert (gap.id, gap.since, gap.until) == ("0", 0, 30)
    assert gap.causes == (GapCause.DELIVERIES_REFUSED, GapCause.NO_TRAFFIC, GapCause.NO_WEB_PROCESS)


def test_proof_of_the_middle_leaves_both_ends_open() -> None:
    book = Book()
    book.apply(MissedInterval(portal_id=1, scope="contact", since=0, until=30, cause=GapCause.NO_TRAFFIC))
    book.apply(ProvenInterval(portal_id=1, since=10, until=20, proof=Proof.BACKFILL, backfill="b1"))
    assert sorted((gap.since, gap.until, gap.backfill) for gap in book.gaps.values()) == [
        (0, 10, ""), (10, 20, "b1"), (20, 30, ""),
    ]  # fmt: skip
