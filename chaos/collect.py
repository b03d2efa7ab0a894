"""Gather the facts of a run when it is over. Rule: each is read where it is true, and past every proxy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import orjson

from chaos.facts import Facts, ObservedDisruption
from chaos.handlers import NOTED_TYPE
from chaos.load import FIRST_FORGED, EditLoad
from chaos.stack import Stack
from spokes.audit.records import TERMINAL, Outcome
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE
from spokes.simulator.changes import ObjectRef
from spokes.simulator.crm.object_types import DEAL
from spokes.simulator.demo import run_command
from spokes.simulator.demo.comparison import (
    REGISTERED_TYPES,
    EventIdentityKey,
    ExpectedState,
    associated_ids,
    wrong_values,
)
from spokes.simulator.errors import JsonObject
from spokes.simulator.webhooks.delivery_log import DeliveryState

_LEFTOVER_PATTERNS: Final = (
    "arq:job:*",
    "arq:retry:*",
    "spokes:*:settled:*",
)  # keys of work; leases end a little later
_ERROR_MARKERS: Final = (
    b"Traceback",
    b"uncaught",
    b"never retrieved",
    b"delivery_failed",
    b"unreadable",
    b"python_warning",
)
_PERSONAL_VALUES: Final = (b"@example.com", b"+1415", b"(415)", b"City ")  # values of the people of this run
_MAX_LINE_BYTES: Final = 160


async def collect(house: Stack, load: EditLoad, disturbances: list[ObservedDisruption]) -> Facts:
    """Ask everybody; the house must still stand."""
    _dump_simulator(house)
    truth = ExpectedState(load, REGISTERED_TYPES | {NOTED_TYPE})
    records = await _export_audit(house)
    ends = final_outcomes((_event_name(truth.identity(record)), record["outcome"]) for record in records)
    told, sim = _note_times(load), house.sim
    return Facts(
        undelivered=tuple(_undelivered(load)),
        accepted=frozenset(map(_event_name, truth.outcomes)),
        outcomes=ends,
        allowed_dead=frozenset(_event_name(event) for event in truth.outcomes if not _record_exists(load, event)),
        forged_accepted=sum(attempt.acknowledged for attempt, _ in load.manual_requests)
        + sum((record["event_id"] or 0) >= FIRST_FORGED for record in records),
        note_times={value: tuple(times) for value, times in told.items()},
        expected_notes=frozenset(
            str(event[3])
            for event in truth.outcomes
            if event[0] == NOTED_TYPE
            and "processed" in ends.get(_event_name(event), ())
            and _record_exists(load, event)
        ),
        once_counts=dict(_once_counts(load)),
        wrong_records=(
            *wrong_values(load.people, "contacts", "phone", load.people.phones)[1],
            *wrong_values(load.people, "companies", "domain", load.people.domains)[1],
        ),
        leftovers=await _leftovers(house),
        rate_limited_at_ms=tuple(call.at_ms for call in sim.requests if call.policy is not None),
        chain_is_intact=await run_command(house.direct_environment, "audit", "verify") is not None,
        disruptions=tuple(disturbances),
    )


def final_outcomes(outcomes: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return in what each event ended, from all outcomes in their order; a dead letter taken up again is no end."""
    ends: dict[str, list[str]] = {}
    for event, outcome in outcomes:
        found = ends.setdefault(event, [])
        if outcome == Outcome.REPLAYED and found[-1:] == [Outcome.DEAD]:
            found.pop()
        elif outcome in TERMINAL:
            found.append(outcome)
    return {event: tuple(found) for event, found in ends.items() if found}


def find_log_errors(folder: Path) -> Iterator[str]:
    """Lines of our processes' logs that no trouble excuses: faults of ours, and values of people."""
    for log in sorted([*folder.glob("web*.log"), *folder.glob("worker*.log")]):
        for line in log.read_bytes().splitlines():
            if any(sign in line for sign in (*_ERROR_MARKERS, *_PERSONAL_VALUES)):
                yield f"{log.stem}: {line[:_MAX_LINE_BYTES].decode(errors='replace')}"


def still_running(folder: Path) -> Iterator[str]:
    """The command lines of processes that were started with this DATA_DIR."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended while we looked, or is not ours to look at
        if f"DATA_DIR={folder}".encode() in environ and state != "Z":
            yield command


async def is_drained(house: Stack) -> bool:
    """Return whether nothing is on its way any more: at HubSpot, in the queue, or to the store."""
    if house.sim.deliveries.counts[DeliveryState.PENDING]:
        return False
    redis = house.redis()
    try:
        return not await redis.zcard(JOB_QUEUE) and not await redis.xlen(AUDIT_STREAM)
    finally:
        await redis.aclose()


async def _export_audit(house: Stack) -> list[JsonObject]:
    output = await run_command(house.direct_environment, "audit", "export", "--format", "jsonl") or b""
    (house.folder / "audit.jsonl").write_bytes(output)
    return sorted(map(orjson.loads, output.splitlines()), key=lambda record: record["seq"])  # some clocks were wrong


def _dump_simulator(house: Stack) -> None:
    """Leave HubSpot's side beside the logs, for whoever looks into a run that failed."""
    sent = house.sim.deliveries
    attempts = (attempt.as_json() for attempt in sent.attempts)
    sides: dict[str, Iterable[object]] = {"calls": house.sim.requests, "events": sent.events, "attempts": attempts}
    for name, lines in sides.items():
        (house.folder / f"{name}.jsonl").write_bytes(b"\n".join(orjson.dumps(line, default=list) for line in lines))


def _event_name(event: EventIdentityKey) -> str:
    return " ".join(map(str, event))


def _undelivered(load: EditLoad) -> Iterator[str]:
    for event in load.sim.deliveries.events:
        if event.state is not DeliveryState.ACKNOWLEDGED:
            yield f"{event.state} {event.element}"


def _record_exists(load: EditLoad, event: EventIdentityKey) -> bool:
    """Whether the record that an event is about is there, under its own id."""
    family = str(event[0]).partition(".")[0]
    type_ = load.sim.crm.types.resolve({"company": "companies"}.get(family, f"{family}s"))
    return load.sim.crm.find(type_, str(event[1]), merged=False) is not None


def _note_times(load: EditLoad) -> dict[str, list[int]]:
    """When each change of a city was told of, by the city."""
    told: dict[str, list[int]] = {}
    for note in load.people.records("notes"):
        if (body := note.properties.get("hs_note_body", "")).startswith("City "):
            told.setdefault(body, []).append(note.created_at_ms)
    return told


def _once_counts(load: EditLoad) -> Iterator[tuple[str, int]]:
    people, crm = load.people, load.sim.crm
    for deal in people.won_deals:
        yield f"deal {deal}", len(associated_ids(people, ObjectRef(DEAL, deal), "tasks"))
    bodies = Counter(note.properties.get("hs_note_body") for note in people.records("notes"))
    for ticket in people.closed_tickets & set(people.tickets):
        made = bodies[f"Support ticket {ticket} was closed."]
        contact = crm.find(crm.types.resolve("contacts"), people.tickets[ticket])
        if made or contact is not None:  # who was erased meanwhile is owed none
            yield f"ticket {ticket}", made


async def _leftovers(house: Stack) -> dict[str, int]:
    redis = house.redis()
    try:
        left = {"audit records": int(await redis.xlen(AUDIT_STREAM)), "deliveries": int(await redis.zcard(JOB_QUEUE))}
        for pattern in _LEFTOVER_PATTERNS:
            left[pattern] = len([key async for key in redis.scan_iter(pattern, count=1000)])
        return left
    finally:
        await redis.aclose()
