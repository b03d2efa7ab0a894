"""What Spokes did in the demo and what it prevented, in five lines. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

from spokes.simulator.app import Simulator
from spokes.simulator.demo.scenario import CALL_LIMIT, OTHER_PROGRAM
from spokes.simulator.errors import JsonObject

_TOO_MANY = 429
_NOT_FOUND = 404


def summary_lines(sim: Simulator, records: Sequence[JsonObject], seconds: float) -> Iterator[str]:
    """Yield the lines; calls are counted by caller, so the other program's refusals are not Spokes' own."""
    other, own = (
        Counter(call.status for call in sim.requests if (call.user_agent == OTHER_PROGRAM) is is_other)
        for is_other in (True, False)
    )
    outcomes = Counter(record["outcome"] for record in records if record["action"] == "event")
    details = [record["detail"] for record in records if record["action"] == "delivery.received"]
    duplicates = sum(detail.get("duplicate", 0) for detail in details)
    refused = sum(sum(r["detail"]["reasons"].values()) for r in records if r["action"] == "requests.refused")
    events, calls = len(sim.deliveries.events), max(1, own.total())
    yield (
        f"Spokes made {own.total():,} calls for {events:,} events ({events / calls:.0f} events a call); "
        f"{_was(own[_TOO_MANY])} answered 429."
    )
    yield (
        f"Another program with the same token used up the limit ({CALL_LIMIT} calls in 10 s) on purpose and met "
        f"{other[_TOO_MANY]:,} refusals."
    )
    broken = sum(count for status, count in own.items() if not status or status >= 500)  # noqa: PLR2004 - HTTP's own
    yield (
        f"HubSpot failed {broken:,} calls on purpose, and {own[_NOT_FOUND]:,} found no record: Spokes repeats those "
        "about young records, which HubSpot may find seconds later."
    )
    yield (
        f"Prevented: {duplicates:,} duplicates, {outcomes['echo']:,} echoes of our own writes, "
        f"{outcomes['superseded'] + outcomes['coalesced']:,} outdated or repeated changes, {refused:,} forged or stale "
        "requests."
    )
    yield (
        f"Every event has an outcome: {outcomes['processed']:,} were processed, {outcomes['dead']:,} are dead letters, "
        f"which can be replayed. {seconds:.0f} s in total, including the start of the processes."
    )


def _was(count: int) -> str:
    return f"{count:,} was" if count == 1 else f"{count:,} were"
