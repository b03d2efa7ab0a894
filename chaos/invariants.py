"""What must be true whatever went wrong. Rule: pure; each says what is wrong, and names a few examples."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.facts import Facts
from chaos.plan import CAUSES_REPEATS, DELAYS_CALLS

_MAX_NAMED: Final = 5
_WINDOW_MS: Final = 12_000  # HubSpot's, and the wait for a place
_SLACK_MS: Final = 1_500  # an effect may be under way for so long before the trouble that cuts it off


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and where."""

    name: str
    cases: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.cases[:_MAX_NAMED]) + (" ..." if len(self.cases) > _MAX_NAMED else "")
        return f"{self.name}: {len(self.cases)}: {named}"


def violations(facts: Facts) -> list[Violation]:
    """Return every invariant that `facts` violate."""
    found = ((what, tuple(sorted(map(str, check(facts))))) for what, check in INVARIANTS)
    return [Violation(what, where) for what, where in found if where]


def _lost(facts: Facts) -> Collection[str]:
    return facts.accepted - facts.outcomes.keys()


def _settled_twice(facts: Facts) -> Iterator[str]:
    for event, ends in facts.outcomes.items():
        if len(ends) > 1 and ends != ("dead", "discarded"):  # a dead letter may be discarded afterwards
            yield f"{event} {' '.join(ends)}"


def _not_accepted(facts: Facts) -> Collection[str]:
    return facts.outcomes.keys() - facts.accepted


def _unexpected_dead(facts: Facts) -> Iterator[str]:
    return (event for event, ends in facts.outcomes.items() if "dead" in ends and event not in facts.allowed_dead)


def _missing_notes(facts: Facts) -> Collection[str]:
    return facts.expected_notes - facts.note_times.keys()


def _unexplained_repeats(facts: Facts) -> Iterator[str]:
    troubles = [trouble for trouble in facts.disruptions if trouble.kind in CAUSES_REPEATS]
    for effect, times in facts.note_times.items():
        for first, again in pairwise(sorted(times)):
            if not any(one.started_ms - _SLACK_MS <= again and first <= one.ended_ms + _SLACK_MS for one in troubles):
                yield effect


def _not_once(facts: Facts) -> Iterator[str]:
    return (f"{name} {count} times" for name, count in facts.once_counts.items() if count != 1)


def _over_budget(facts: Facts) -> Iterator[str]:
    """A call that arrives long after it was given up has lost its place in the budget; nobody can help that."""
    late = [trouble for trouble in facts.disruptions if trouble.kind in DELAYS_CALLS]
    for at_ms in facts.rate_limited_at_ms:
        if not any(one.started_ms <= at_ms <= one.ended_ms + _WINDOW_MS for one in late):
            yield f"at {at_ms}"


def _leftovers(facts: Facts) -> Iterator[str]:
    return (f"{what} {count}" for what, count in facts.leftovers.items() if count)


INVARIANTS: Final[tuple[tuple[str, Callable[[Facts], Collection[str] | Iterator[str]]], ...]] = (
    ("events that HubSpot could not deliver", lambda facts: facts.undelivered),
    ("events that were answered 202 and are lost", _lost),
    ("events with more than one end", _settled_twice),
    ("events that nobody was answered 202 for", _not_accepted),
    ("events that died, whose record is alive", _unexpected_dead),
    ("forged requests that were taken", lambda facts: ["some"] * facts.forged_accepted),
    ("effects that did not happen", _missing_notes),
    ("effects that were repeated, with no trouble in between", _unexplained_repeats),
    ("effects that must happen once, and did not", _not_once),
    ("records that are not as they should be", lambda facts: facts.wrong_records),
    ("calls beyond HubSpot's limits", _over_budget),
    ("left behind in Redis", _leftovers),
    ("the audit's chain", lambda facts: [] if facts.chain_is_intact else ["broken"]),
    ("processes that ended otherwise than they should", lambda facts: facts.unexpected_exits),
    ("lines of a log that should not be there", lambda facts: facts.log_errors),
    ("processes that are still running", lambda facts: facts.still_running),
)
