"""Collect the facts after a run from the simulator, Redis, the audit and the logs, without using the proxies."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

from chaos.disruptions.bad_events import UNREADABLE_JOB
from chaos.disruptions.other_application import DONE
from chaos.facts import Facts, ObservedDisruption
from chaos.handlers import BAD_TYPES, NOTED_BY, NOTED_TYPE
from chaos.load import FIRST_FORGED, EditLoad
from chaos.oauth.leaked_secrets import leaked_secrets
from chaos.oauth.portals import wrongly_marked
from chaos.stack import Stack
from chaos.store_dumps import dump_redis, dump_sql
from spokes.audit.records import TERMINAL, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.core.redis.keys import AUDIT_STREAM, DEFAULT_QUEUE, QUEUES
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

# Keys of jobs; without leases, which expire a little later.
_LEFTOVER_PATTERNS: Final = (
    "spokes:job:*",
    "spokes:retry:*",
    "arq:job:*",
    "arq:retry:*",
    "spokes:*:settled:*",
)
_ERROR_MARKERS: Final = (
    b"Traceback",
    b"uncaught",
    b"never retrieved",
    b"delivery_failed",
    b"unreadable",
    b"python_warning",
)
# Lines about the unreadable job, and about a handler's task that nobody awaits.
_EXPECTED_MARKERS: Final = (UNREADABLE_JOB.encode(), b'"error": "SystemExit"')
_PERSONAL_VALUES: Final = (b"@example.com", b"+1415", b"(415)", b"City ")  # personal data of this run's contacts
_MAX_LINE_BYTES: Final = 160


async def collect(stack: Stack, load: EditLoad, observed: list[ObservedDisruption]) -> Facts:
    """Collect all facts; the stack must still be running."""
    _dump_simulator(stack)
    await _dump_stores(stack)
    expected = ExpectedState(load, REGISTERED_TYPES | BAD_TYPES | {NOTED_TYPE})
    records = await _export_audit(stack)
    named = [
        (_event_name(expected.identity(record)), record)
        for record in records
        if UNREADABLE_JOB not in str(record["delivery_id"])
    ]
    ends = EventEnds((name, record["detail"].get("handlers") or ()) for name, record in named)
    if has_all_handlers(stack.other_version):
        ends.require((_event_name(event) for event in expected.outcomes if event[0] == NOTED_TYPE), NOTED_BY)
    outcomes = final_outcomes(
        (end, record["outcome"])
        for name, record in named
        for end in ends.of_record(name, record["handler"] or "", record["event_key"] or "")
    )
    note_times, sim = _note_times(load), stack.sim
    return Facts(
        undelivered=tuple(_undelivered(load)),
        accepted=frozenset(end for event in expected.outcomes for end in ends.of_event(_event_name(event))),
        outcomes=outcomes,
        allowed_dead=frozenset(_allowed_dead(load, expected, ends)),
        forged_accepted=_count_forged(load, records),
        note_times={value: tuple(times) for value, times in note_times.items()},
        expected_notes=frozenset(_expected_notes(load, expected, ends, outcomes)),
        once_counts=dict(_once_counts(load)),
        wrong_records=tuple(_wrong_records(load, stack)),
        leftovers=await _leftovers(stack),
        rate_limited_at_ms=tuple(call.at_ms for call in sim.requests if call.policy is not None),
        other_jobs_lost=stack.other_jobs - await _other_jobs_done(stack),
        chain_is_intact=await run_command(stack.direct_environment, "audit", "verify") is not None,
        disruptions=tuple(observed),
        marked_portals=tuple(wrongly_marked(await _list_portals(stack))),
        foreign_calls=tuple(stack.portals.foreign_calls()),
        token_refreshes=sum(sim.installs.refreshes.values()),
        envelopes=stack.sentry.count,
        leaked_secrets=tuple(leaked_secrets(stack.folder, stack.secrets)),
    )


class EventEnds:
    """The names of what must end exactly once: an event, or of one with several handlers, each of these."""

    def __init__(self, handlers: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Read which handlers the records of each event list; most events have one, which no record lists."""
        self._handlers: dict[str, set[str]] = {}
        for event, names in handlers:
            if listed := set(names):
                self._handlers.setdefault(event, set()).update(listed)

    def require(self, events: Iterable[str], handlers: Iterable[str]) -> None:
        """Require an end of each of `handlers` of these events, whatever the records list."""
        for event in events:
            self._handlers.setdefault(event, set()).update(handlers)

    def of_event(self, event: str) -> list[str]:
        """Return the names of an event's ends."""
        return [f"{event} {handler}" for handler in sorted(self._handlers.get(event, ()))] or [event]

    def of_handler(self, event: str, handler: str) -> str:
        """Return the name of a handler's end."""
        return f"{event} {handler}" if event in self._handlers else event

    def of_record(self, event: str, handler: str, event_key: str) -> list[str]:
        """Return the names of the ends that a record is about.

        A worker of a version with another handler for the event writes the key of the entry that it ran, which names
        a handler; without one it settles the event, for all handlers.
        """
        handlers = self._handlers.get(event)
        if handlers is None or handler in handlers:
            return [self.of_handler(event, handler)]
        entry_handler = event_key.partition(".")[2]
        return [self.of_handler(event, entry_handler)] if entry_handler in handlers else self.of_event(event)


def has_all_handlers(revision: Path) -> bool:
    """Return whether an unpacked revision of the project registers the same handlers for a run's changes."""
    handlers = (revision / "chaos" / "handlers.py").read_text()
    return all(f"async def {name.rpartition('.')[2]}(" in handlers for name in NOTED_BY)


def final_outcomes(outcomes: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the final outcomes of each event, from all outcomes in order; a replayed dead letter does not count."""
    outcomes_of: dict[str, list[str]] = {}
    for event, outcome in outcomes:
        final = outcomes_of.setdefault(event, [])
        if outcome == Outcome.REPLAYED and final[-1:] == [Outcome.DEAD]:
            final.pop()
        elif outcome in TERMINAL:
            final.append(outcome)
    return {event: tuple(final) for event, final in outcomes_of.items() if final}


def find_log_errors(folder: Path) -> Iterator[str]:
    """Yield log lines of web and workers that no disruption explains: errors of Spokes, and personal data."""
    for log in sorted([*folder.glob("web*.log"), *folder.glob("worker*.log")]):
        for line in log.read_bytes().splitlines():
            is_error = any(marker in line for marker in _ERROR_MARKERS)
            is_expected = any(marker in line for marker in _EXPECTED_MARKERS)
            if (is_error and not is_expected) or any(value in line for value in _PERSONAL_VALUES):
                yield f"{log.stem}: {line[:_MAX_LINE_BYTES].decode(errors='replace')}"


def still_running(folder: Path) -> Iterator[str]:
    """Yield the command lines of running processes with this DATA_DIR."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has just ended, or belongs to another user
        if f"DATA_DIR={folder}".encode() in environ and state != "Z":
            yield command


async def is_drained(stack: Stack) -> bool:
    """Return whether no event is pending at HubSpot, in the queue, or in the audit stream."""
    if stack.sim.deliveries.counts[DeliveryState.PENDING]:
        return False
    redis = stack.redis()
    try:
        queues = [await redis.zcard(queue) for queue in (*QUEUES.values(), DEFAULT_QUEUE)]
        return not any(queues) and not await redis.xlen(AUDIT_STREAM)
    finally:
        await redis.aclose()


async def _export_audit(stack: Stack) -> list[JsonObject]:
    output = await run_command(stack.direct_environment, "audit", "export", "--format", "jsonl") or b""
    (stack.folder / "audit.jsonl").write_bytes(output)
    # By sequence number, not by time: some clocks were wrong.
    return sorted(map(orjson.loads, output.splitlines()), key=lambda record: record["seq"])


def _dump_simulator(stack: Stack) -> None:
    """Write the simulator's calls, events and attempts into the run's folder, for analysis of a failed run."""
    log = stack.sim.deliveries
    attempts = (attempt.as_json() for attempt in log.attempts)
    files: dict[str, Iterable[object]] = {"calls": stack.sim.requests, "events": log.events, "attempts": attempts}
    for name, lines in files.items():
        (stack.folder / f"{name}.jsonl").write_bytes(b"\n".join(orjson.dumps(line, default=list) for line in lines))


async def _dump_stores(stack: Stack) -> None:
    """Write all that Redis and SQL hold into the run's folder, where `leaked_secrets` searches it."""
    async with stack.redis() as redis:
        (stack.folder / "redis.dump").write_text(await dump_redis(redis))
    engine = open_engine(f"postgresql+asyncpg://postgres@127.0.0.1:{stack.ports['postgres']}/postgres")
    try:
        (stack.folder / "sql.dump").write_text(await dump_sql(engine))
    finally:
        await engine.dispose()


async def _list_portals(stack: Stack) -> list[JsonObject]:
    output = await run_command(stack.direct_environment, "portals", "list", "--json") or b""
    return [orjson.loads(line) for line in output.splitlines()]


def _event_name(event: EventIdentityKey) -> str:
    return " ".join(map(str, event))


def _undelivered(load: EditLoad) -> Iterator[str]:
    for event in load.sim.deliveries.events:
        if event.state is not DeliveryState.ACKNOWLEDGED:
            yield f"{event.state} {event.element}"


def _record_exists(load: EditLoad, event: EventIdentityKey) -> bool:
    """Return whether the record of an event exists, under its own id."""
    registration, portal_id, object_id = map(str, event[:3])
    crm = load.sim.portals[int(portal_id)].crm
    family = registration.partition(".")[0]
    type_ = crm.types.resolve({"company": "companies"}.get(family, f"{family}s"))
    return crm.find(type_, object_id, merged=False) is not None


def _allowed_dead(load: EditLoad, expected: ExpectedState, ends: EventEnds) -> Iterator[str]:
    """Yield the ends that may be a dead letter: of events that no handler can process, or whose record is gone."""
    for event in expected.outcomes:
        if event[0] in BAD_TYPES or not _record_exists(load, event):
            yield from ends.of_event(_event_name(event))


def _count_forged(load: EditLoad, records: list[JsonObject]) -> int:
    """Return how many forged requests were acknowledged, and how many records their events have."""
    acknowledged = sum(attempt.acknowledged for attempt, _ in load.manual_requests)
    recorded: int = sum((record["event_id"] or 0) >= FIRST_FORGED for record in records)
    return acknowledged + recorded


def _expected_notes(
    load: EditLoad, expected: ExpectedState, ends: EventEnds, outcomes: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    """Yield the text of each note that a handler that processed a city change must have created."""
    for event in expected.outcomes:
        if event[0] != NOTED_TYPE or not _record_exists(load, event):
            continue
        for handler, prefix in NOTED_BY.items():
            if "processed" in outcomes.get(ends.of_handler(_event_name(event), handler), ()):
                yield f"{prefix}{event[-1]}"


def _wrong_records(load: EditLoad, stack: Stack) -> Iterator[str]:
    people = load.people
    yield from wrong_values(people, "contacts", "phone", people.phones)[1]
    yield from wrong_values(people, "companies", "domain", people.domains)[1]
    yield from stack.portals.wrong_phones()


def _note_times(load: EditLoad) -> dict[str, list[int]]:
    """Return the creation times (epoch ms) of the notes of each city change, by their text."""
    note_times: dict[str, list[int]] = {}
    prefixes = tuple(f"{prefix}City " for prefix in NOTED_BY.values())
    for note in load.people.records("notes"):
        if (body := note.properties.get("hs_note_body", "")).startswith(prefixes):
            note_times.setdefault(body, []).append(note.created_at_ms)
    return note_times


def _once_counts(load: EditLoad) -> Iterator[tuple[str, int]]:
    people, crm = load.people, load.sim.crm
    for deal in people.won_deals:
        yield f"deal {deal}", len(associated_ids(people, ObjectRef(DEAL, deal), "tasks"))
    bodies = Counter(note.properties.get("hs_note_body") for note in people.records("notes"))
    for ticket in people.closed_tickets & set(people.tickets):
        notes = bodies[f"Support ticket {ticket} was closed."]
        contact = crm.find(crm.types.resolve("contacts"), people.tickets[ticket])
        if notes or contact is not None:  # the contact of a ticket may be erased before its note is created
            yield f"ticket {ticket}", notes


async def _other_jobs_done(stack: Stack) -> int:
    async with stack.redis() as redis:
        return int(await redis.scard(DONE))  # type: ignore[misc]  # redis-py types one class for sync and async


async def _leftovers(stack: Stack) -> dict[str, int]:
    redis = stack.redis()
    try:
        leftovers = {
            "audit records": int(await redis.xlen(AUDIT_STREAM)),
            "deliveries": sum([int(await redis.zcard(queue)) for queue in (*QUEUES.values(), DEFAULT_QUEUE)]),
        }
        for pattern in _LEFTOVER_PATTERNS:
            leftovers[pattern] = len([key async for key in redis.scan_iter(pattern, count=1000)])
        return leftovers
    finally:
        await redis.aclose()
