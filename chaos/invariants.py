"""Invariants that must hold after any disruptions. Pure; a violation names the invariant and a few cases."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.facts import Facts
from chaos.plan import CAUSES_REPEATS, DELAYS_CALLS

_MAX_NAMED: Final = 5
_WINDOW_MS: Final = 12_000  # HubSpot's window, and the wait for a slot
_SLACK_MS: Final = 1_500  # an effect may occur this long before or after the disruption that repeats it


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and the cases that violate it."""

    name: str
    cases: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.cases[:_MAX_NAMED]) + (" ..." if len(self.cases) > _MAX_NAMED else "")
        return f"{self.name}: {len(self.cases)}: {shown}"


def violations(facts: Facts) -> list[Violation]:
    """Return every invariant that `facts` violate."""
    checked = ((name, tuple(sorted(map(str, check(facts))))) for name, check in INVARIANTS)
    return [Violation(name, cases) for name, cases in checked if cases]


def _lost(facts: Facts) -> Collection[str]:
    return facts.accepted - facts.outcomes.keys()


def _settled_twice(facts: Facts) -> Iterator[str]:
    for event, outcomes in facts.outcomes.items():
        if len(outcomes) > 1 and outcomes != ("dead", "discarded"):  # a dead letter may be discarded later
            yield f"{event} {' '.join(outcomes)}"


def _not_accepted(facts: Facts) -> Collection[str]:
    return facts.outcomes.keys() - facts.accepted


def _unexpected_dead(facts: Facts) -> Iterator[str]:
    return (
        event for event, outcomes in facts.outcomes.items() if "dead" in outcomes and event not in facts.allowed_dead
    )


def _missing_notes(facts: Facts) -> Collection[str]:
    return facts.expected_notes - facts.note_times.keys()


def _unexplained_repeats(facts: Facts) -> Iterator[str]:
    disruptions = [disruption for disruption in facts.disruptions if disruption.kind in CAUSES_REPEATS]
    for effect, times in facts.note_times.items():
        for first, again in pairwise(sorted(times)):
            if not any(d.started_ms - _SLACK_MS <= again and first <= d.ended_ms + _SLACK_MS for d in disruptions):
                yield effect


def _not_once(facts: Facts) -> Iterator[str]:
    return (f"{name} {count} times" for name, count in facts.once_counts.items() if count != 1)


def _over_budget(facts: Facts) -> Iterator[str]:
    """Yield calls beyond the limit, except those delayed by a disruption: their slot in the budget has expired."""
    delays = [disruption for disruption in facts.disruptions if disruption.kind in DELAYS_CALLS]
    for at_ms in facts.rate_limited_at_ms:
        if not any(d.started_ms <= at_ms <= d.ended_ms + _WINDOW_MS for d in delays):
            yield f"at {at_ms}"


def _leftovers(facts: Facts) -> Iterator[str]:
    return (f"{name} {count}" for name, count in facts.leftovers.items() if count)


INVARIANTS: Final[tuple[tuple[str, Callable[[Facts], Collection[str] | Iterator[str]]], ...]] = (
    ("events that HubSpot could not deliver", lambda facts: facts.undelivered),
    ("events that were acknowledged with 202 and lost", _lost),
    ("events with more than one final outcome", _settled_twice),
    ("events with an outcome that were never acknowledged", _not_accepted),
    ("dead events whose record exists", _unexpected_dead),
    ("forged requests that were accepted", lambda facts: ["request"] * facts.forged_accepted),
    ("expected notes that are missing", _missing_notes),
    ("notes that were repeated without a disruption in between", _unexplained_repeats),
    ("effects of tools.once that did not happen exactly once", _not_once),
    ("records with a wrong value", lambda facts: facts.wrong_records),
    ("calls beyond HubSpot's limits", _over_budget),
    ("entries left in Redis", _leftovers),
    ("jobs of another application that did not run", lambda facts: ["job"] * facts.other_jobs_lost),
    ("the audit chain", lambda facts: [] if facts.chain_is_intact else ["broken"]),
    ("portals that were marked without a reason", lambda facts: facts.marked_portals),
    ("calls with the token of another portal", lambda facts: facts.foreign_calls),
    ("secrets in logs, Redis, SQL or Sentry", lambda facts: facts.leaked_secrets),
    ("unexpected exits of processes", lambda facts: facts.unexpected_exits),
    ("errors or personal data in logs", lambda facts: facts.log_errors),
    ("processes that are still running", lambda facts: facts.still_running),
)
