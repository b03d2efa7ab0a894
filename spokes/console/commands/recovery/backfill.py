"""`backfill`: read the records that changed in an interval, and process the events that were not delivered."""

import asyncio
import getpass
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Final, Self

import typer

from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.estimate import Estimate, estimate
from spokes.backfill.plan import BackfillPlan, make_plan
from spokes.backfill.run import BackfillParts, BackfillResult, BackfillRun
from spokes.backfill.store import Backfill, BackfillState, BackfillStore, first_open, new_backfill_id, runner_name
from spokes.backfill.window_walk import Walk
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.recovery.backfill_tables import print_results
from spokes.console.commands.recovery.chosen_portals import chosen_portals
from spokes.console.installs.portal_credentials import open_crm
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, Progress, YesOption, confirm, print_json, print_message, progress
from spokes.console.record_filters import parse_time_option
from spokes.core import clock
from spokes.core.errors import RecoveryRefused
from spokes.core.settings import Settings
from spokes.gaps.ledger import GapLedger
from spokes.intake.backpressure import Backpressure
from spokes.intake.event_source import EventSource
from spokes.routing import Router, load_router

_SETTLED_MARGIN_MS: Final = 60_000  # changes of the last minute are read last, when the index shows them
_MINUTE_S: Final = 60
_ROOM_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Request:
    """What the operator asked for."""

    object_type: str
    since: int
    until: int
    properties: tuple[str, ...]
    handler: str
    portal_id: int | None


def backfill(
    object_type: Annotated[str, typer.Argument(help="Type of the records, such as contacts or 2-123.")],
    since: Annotated[
        int, typer.Option(help="Read what changed from this time on.", parser=parse_time_option, metavar="TIME")
    ],
    until: Annotated[
        int | None,
        typer.Option(
            help="Until this time; later changes are delivered anyway.",
            parser=parse_time_option,
            metavar="TIME",
            show_default="now",
        ),
    ] = None,
    properties: Annotated[
        list[str] | None, typer.Option("--property", help="Only changes of this property; may be repeated.")
    ] = None,
    handler: Annotated[str, typer.Option(help="Only the events that this handler registers for.")] = "",
    portal_id: Annotated[int | None, typer.Option("--portal", help="Only this portal.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and estimate only.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read the records that changed in an interval from HubSpot, and process the events that were not delivered.

    Events that are known are not processed again. A backfill that is killed or stopped continues with the same command,
    or with `spokes backfills resume`. Exit code 1 when it is not finished.

    Example: spokes backfill contacts --since 2026-11-01
    Example: spokes backfill contacts --since 2026-11-01 --property phone --handler contacts.keep_reachable --dry-run
    """
    now = clock.now_ms()
    request = _Request(
        object_type, since, now if until is None else min(until, now), tuple(properties or ()), handler, portal_id
    )
    if request.since >= request.until:
        raise typer.BadParameter("The interval ends before it begins. Write an earlier time, such as 7d.")
    results = asyncio.run(_backfill(Settings.from_env(), request, dry_run=dry_run, yes=yes, as_json=as_json))
    finish(results, as_json=as_json)


def finish(results: Sequence[BackfillResult], *, as_json: bool) -> None:
    """Print the results and end the command: 1 if any backfill is not finished, or not proven."""
    print_results(results, as_json=as_json)
    is_done = all(
        result.backfill.state is BackfillState.FINISHED and not result.backfill.checkpoint.walk.unproven
        for result in results
    )
    raise typer.Exit(0 if is_done else 1)


def plan_for(router: Router, object_type: str, properties: Sequence[str], handler: str) -> BackfillPlan:
    """Return the plan of a backfill.

    Raises:
        RecoveryRefused: there is no such handler, or nothing to read.
    """
    own = None
    if handler:
        own = [registration for registration, route in router if route.name == handler]
        if not own:
            raise RecoveryRefused(f"There is no handler {handler!r}. Handlers: {', '.join(router.names)}.")
    return make_plan(object_type, router.registrations, properties=properties, own=own)


class BackfillSession:
    """What the backfills of one command share: connections, the store, and the process's name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self.router = load_router(settings.handlers)
        self.runner = runner_name()

    async def __aenter__(self) -> Self:
        """Open everything; what was opened is closed if this fails half way."""
        settings = self._settings
        async with AsyncExitStack() as opening:
            self._engine = await opening.enter_async_context(open_audit_store(settings))
            self._redis = await opening.enter_async_context(
                operator_redis(settings, is_tolerant=False, max_connections=settings.redis_worker_connections)
            )
            self._crm, self.portals = await opening.enter_async_context(open_crm(settings, self._redis, self._engine))
            registrations = self.router.registrations
            self._source = EventSource.from_settings("backfill", self._redis, settings, registrations)
            opening.push_async_callback(self._source.close)
            self._backpressure = Backpressure(self._redis, settings)
            self.store = BackfillStore.from_settings(settings, self._engine, getpass.getuser())
            self._stack = opening.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close everything."""
        await self._stack.aclose()

    def reader(self, portal_id: int, plan: BackfillPlan, counts: Counts) -> CRMReader:
        """Return what reads the records of one portal."""
        return CRMReader(self._crm, portal_id, plan, counts)

    def estimate(self, plan: BackfillPlan, records: int) -> Estimate:
        """Return the estimate for one portal."""
        return estimate(
            plan,
            records,
            search_limit=self._settings.hubspot_search_limit,
            call_limit=self._settings.hubspot_rate_limit,
        )

    async def run(self, backfills: Sequence[Backfill]) -> list[BackfillResult]:
        """Run backfills that this process has created or claimed, those of several portals side by side."""
        total = sum(backfill.counts.expected for backfill in backfills) or None
        with progress("Records", total) as bar:
            return await asyncio.gather(*(self._run_one(backfill, backfills, bar) for backfill in backfills))

    async def _run_one(self, backfill: Backfill, all_of_them: Sequence[Backfill], bar: Progress) -> BackfillResult:
        plan = plan_for(self.router, backfill.object_type, backfill.properties, backfill.handler)
        parts = BackfillParts(
            store=self.store, ledger=GapLedger.from_settings(self._settings, self._engine), engine=self._engine,
            admission=self._source, room=self._room,
            on_progress=lambda _: bar.update(sum(each.counts.records for each in all_of_them)),
        )  # fmt: skip
        reader = self.reader(backfill.portal_id, plan, backfill.counts)
        return await BackfillRun(backfill, plan, reader, parts, runner=self.runner).run()

    async def _room(self) -> None:
        """Wait until the queue accepts events of the import class."""
        await self._backpressure.measure()
        while not self._backpressure.accepts_all:
            await asyncio.sleep(_ROOM_POLL_S)
            await self._backpressure.measure()


async def _backfill(
    settings: Settings, request: _Request, *, dry_run: bool, yes: bool, as_json: bool
) -> list[BackfillResult]:
    async with BackfillSession(settings) as session:
        plan = plan_for(session.router, request.object_type, request.properties, request.handler)
        backfills = [
            await _prepare(session, plan, portal_id, request)
            for portal_id in chosen_portals(session.portals, request.portal_id)
        ]
        _show_estimates(session, plan, backfills, as_json=as_json and dry_run)
        if dry_run:
            raise typer.Exit(0)
        confirm("Start?", yes=yes)
        open_ones = await session.store.list()
        started = []
        for each in backfills:
            filters = (each.properties, each.handler)
            earlier = first_open(open_ones, each.portal_id, each.object_type, each.since, filters=filters)
            if earlier is None:
                await session.store.create(each, session.runner)
                started.append(each)
            else:
                print_message(f"Backfill {earlier.id} of portal {earlier.portal_id} is not finished; it continues.")
                started.append(await session.store.claim(earlier.id, session.runner))
        return await session.run(started)


async def _prepare(session: BackfillSession, plan: BackfillPlan, portal_id: int, request: _Request) -> Backfill:
    """Return a backfill that is not stored yet, with HubSpot's count of the records."""
    counts, now = Counts(), clock.now_ms()
    if plan.reads_records:
        counts.expected = await session.reader(portal_id, plan, counts).count(request.since) or 0
    walk = Walk.start(request.since, now - _SETTLED_MARGIN_MS) if plan.reads_records else Walk(())
    return Backfill(
        id=new_backfill_id(), portal_id=portal_id, object_type=plan.object_type, since=request.since,
        until=request.until, properties=request.properties, handler=request.handler, started_at=now,
        started_by=session.store.actor, changed_at=now,
        checkpoint=BackfillCheckpoint(walk=walk, archived_done=not plan.deletions), counts=counts,
    )  # fmt: skip


def _show_estimates(
    session: BackfillSession, plan: BackfillPlan, backfills: Sequence[Backfill], *, as_json: bool
) -> None:
    bins = " and reading the recycle bin, 100 records a call" if plan.deletions else ""
    for each in backfills:
        expected = session.estimate(plan, each.counts.expected)
        if as_json:
            print_json({"portal_id": each.portal_id, "object_type": each.object_type, **_estimate_fields(expected)})
            continue
        minutes = max(1, round(expected.seconds / _MINUTE_S))
        print_message(
            f"Portal {each.portal_id}: {expected.records:,} {plan.object_type} records changed since then. Reading "
            f"them takes {expected.searches:,} searches and {expected.reads:,} other calls, {minutes} min or more"
            f"{bins}."
        )


def _estimate_fields(expected: Estimate) -> dict[str, object]:
    return {
        "records": expected.records, "searches": expected.searches, "reads": expected.reads,
        "seconds": round(expected.seconds, 1),
    }  # fmt: skip
