"""What must be true whatever went wrong. Rule: pure; each says what is wrong, and names a few examples."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.facts import Facts
from chaos.plan import ARRIVING_LATE, REPEATING

_NAMED: Final = 5
_WINDOW_MS: Final = 12_000  # HubSpot's, and the wait for a place
_SLACK_MS: Final = 1_500  # an effect may be under way for so long before the trouble that cuts it off


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and where."""

    what: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.where[:_NAMED]) + (" ..." if len(self.where) > _NAMED else "")
        return f"{self.what}: {len(self.where)}: {named}"


def violations(facts: Facts) -> list[Violation]:
    """Return every invariant that `facts` violate."""
    found = ((what, tuple(sorted(map(str, check(facts))))) for what, check in INVARIANTS)
    return [Violation(what, where) for what, where in found if where]


def _lost(facts: Facts) -> Collection[str]:
    return facts.accepted - facts.ends.keys()


def _ended_twice(facts: Facts) -> Iterator[str]:
    for event, ends in facts.ends.items():
        if len(ends) > 1 and ends != ("dead", "discarded"):  # a dead letter may be discarded afterwards
            yield f"{event} {' '.join(ends)}"


def _invented(facts: Facts) -> Collection[str]:
    return facts.ends.keys() - facts.accepted


def _died(facts: Facts) -> Iterator[str]:
    return (event for event, ends in facts.ends.items() if "dead" in ends and event not in facts.may_die)


def _not_told(facts: Facts) -> Collection[str]:
    return facts.must_be_told - facts.told.keys()


def _repeated(facts: Facts) -> Iterator[str]:
    troubles = [trouble for trouble in facts.disturbances if trouble.kind in REPEATING]
    for effect, times in facts.told.items():
        for first, again in pairwise(sorted(times)):
            if not any(one.began_ms - _SLACK_MS <= again and first <= one.ended_ms + _SLACK_MS for one in troubles):
                yield effect


def _not_once(facts: Facts) -> Iterator[str]:
    return (f"{name} {count} times" for name, count in facts.once.items() if count != 1)


def _over_budget(facts: Facts) -> Iterator[str]:
    """A call that arrives long after it was given up has lost its place in the budget; nobody can help that."""
    late = [trouble for trouble in facts.disturbances if trouble.kind in ARRIVING_LATE]
    for at_ms in facts.limited:
        if not any(one.began_ms <= at_ms <= one.ended_ms + _WINDOW_MS for one in late):
            yield f"at {at_ms}"


def _left(facts: Facts) -> Iterator[str]:
    return (f"{what} {count}" for what, count in facts.left.items() if count)


INVARIANTS: Final[tuple[tuple[str, Callable[[Facts], Collection[str] | Iterator[str]]], ...]] = (
    ("events that HubSpot could not deliver", lambda facts: facts.not_delivered),
    ("events that were answered 202 and are lost", _lost),
    ("events with more than one end", _ended_twice),
    ("events that nobody was answered 202 for", _invented),
    ("events that died, whose record is alive", _died),
    ("forged requests that were taken", lambda facts: ["some"] * facts.forged_accepted),
    ("effects that did not happen", _not_told),
    ("effects that were repeated, with no trouble in between", _repeated),
    ("effects that must happen once, and did not", _not_once),
    ("records that are not as they should be", lambda facts: facts.wrong),
    ("calls beyond HubSpot's limits", _over_budget),
    ("left behind in Redis", _left),
    ("the audit's chain", lambda facts: [] if facts.chain else ["broken"]),
    ("processes that ended otherwise than they should", lambda facts: facts.surprises),
    ("lines of a log that should not be there", lambda facts: facts.complaints),
    ("processes that are still running", lambda facts: facts.still_running),
)
