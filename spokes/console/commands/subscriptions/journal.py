"""`subscriptions journal plan|apply`: the subscriptions to HubSpot's webhooks journal, of each portal."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from getpass import getuser
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.audit_store import open_audit_store
from spokes.console.commands.subscriptions.plan_output import (
    PlannedChange,
    print_changes,
    print_foreign,
    print_missing,
    print_result,
)
from spokes.console.commands.subscriptions.push import AdoptOption
from spokes.console.installs.oauth_parts import portal_store
from spokes.console.installs.portal_views import read_portals
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, YesOption, confirm, print_message
from spokes.core import clock
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.portals.store import PortalState, PortalStore
from spokes.routing import load_router
from spokes.subscriptions.applied_plan import AppliedPlan
from spokes.subscriptions.desired_state import preferred_scope
from spokes.subscriptions.drift.decider import desired_of
from spokes.subscriptions.drift.missing_subscriptions import awaited_events, report_missing_in_portals
from spokes.subscriptions.drift.observations import observe, with_project
from spokes.subscriptions.drift.report import PROJECT_FOLDER
from spokes.subscriptions.journal.api import JournalApi
from spokes.subscriptions.journal.apply import apply_plan
from spokes.subscriptions.journal.contents import OBJECT, Content, Subject, gap, wanted_subscriptions
from spokes.subscriptions.journal.filters import Filter, read_filters
from spokes.subscriptions.journal.ledger import JournalLedger
from spokes.subscriptions.journal.missing_events import missing_events
from spokes.subscriptions.journal.plan import JournalPlan, make_plan, plan_filters, subjects_with_filters
from spokes.subscriptions.subscribed_events import SubscribedEvent, parse_event

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Subscriptions to HubSpot's webhooks journal.")

PortalsOption = Annotated[
    list[int],
    typer.Option("--portal", help="Only this portal; may be repeated. By default all with the app."),
]
WithoutOption = Annotated[
    list[int], typer.Option("--without", help="Remove our subscriptions of this portal; may be repeated.")
]
FiltersOption = Annotated[Path | None, typer.Option(help="A JSON file with filters; see docs/subscriptions.md.")]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line and the handlers ask for, and why the journal lacks some events."""

    settings: Settings
    events: frozenset[SubscribedEvent]
    contents: dict[Subject, Content]
    filters: dict[str, list[Filter]] | None
    portals: frozenset[int]
    gaps: tuple[str, ...]
    scopes: tuple[str, ...]


_Work: TypeAlias = Callable[[JournalPlan, JournalApi, JournalLedger, _Wanted], Awaitable[int]]
_Missing: TypeAlias = Mapping[Subject, Mapping[str, int]]  # since when each event is missing, epoch ms


@app.command("plan")
def plan_journal(
    portal: PortalsOption = [],  # noqa: B006 - typer copies it
    without: WithoutOption = [],  # noqa: B006 - likewise
    filters: FiltersOption = None,
    adopt: AdoptOption = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if there is something to change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what `apply` would change. It changes nothing.

    HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET are the app's. Exit code 1 with --check if there is something to change.

    Example: spokes subscriptions journal plan
    """

    async def show(made: JournalPlan, _api: JournalApi, _ledger: JournalLedger, _wanted: _Wanted) -> int:
        _print_plan(made, as_json=as_json)
        return 1 if check and not made.is_empty else 0

    raise typer.Exit(asyncio.run(_with_plan(portal, without, filters, show, adopt=adopt)))


@app.command("apply")
def apply_journal(
    portal: PortalsOption = [],  # noqa: B006 - typer copies it
    without: WithoutOption = [],  # noqa: B006 - likewise
    filters: FiltersOption = None,
    adopt: AdoptOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Change the journal's subscriptions to what the handlers need, after a confirmation.

    It removes only what it has put there or adopted. Run it again if it was interrupted. Exit code 1 if HubSpot refused
    a part.

    Example: spokes subscriptions journal apply --portal 50112233
    """

    async def change(made: JournalPlan, api: JournalApi, ledger: JournalLedger, wanted: _Wanted) -> int:
        if made.is_empty or not as_json:
            _print_plan(made, as_json=as_json)
        if made.is_empty:
            return 1 if made.blocked else 0
        confirm("Change this in HubSpot?", yes=yes)
        result = AppliedPlan()
        missing = await _missing(wanted, made, ledger)
        await _report_missing(wanted.settings, ledger.engine, missing or {})  # first: the command may be killed
        try:
            await apply_plan(made, api, ledger, result)
        finally:
            print_result(result, as_json=as_json)
            begun = {subject: since for subject, since in (missing or {}).items() if str(subject) in result.begun}
            await _report_missing(wanted.settings, ledger.engine, begun)
            print_missing(None if missing is None else sum(map(len, begun.values())))
        return 1 if result.failures or made.blocked else 0

    raise typer.Exit(asyncio.run(_with_plan(portal, without, filters, change, adopt=adopt, reason=reason)))


async def _with_plan(
    portals: list[int], without: list[int], file: Path | None, work: _Work, *, adopt: bool, reason: str = ""
) -> int:
    """Read HubSpot and the ledger, make a plan, and return what `work` returns."""
    settings = Settings.from_env(required=("HUBSPOT_CLIENT_ID", "HUBSPOT_CLIENT_SECRET"))
    async with open_audit_store(settings) as engine:
        wanted = _wanted(settings, await _portals(settings, portal_store(settings, engine), portals, without), file)
        ledger = JournalLedger.from_settings(settings, engine, getuser(), reason)
        async with JournalApi(settings, wanted.scopes) as api:
            made = await _plan(api, ledger, wanted, adopt=adopt)
            for sentence in wanted.gaps:
                print_message(sentence)
            return await work(made, api, ledger, wanted)


async def _plan(api: JournalApi, ledger: JournalLedger, wanted: _Wanted, *, adopt: bool) -> JournalPlan:
    entries = await ledger.read()
    remote = await api.list_subscriptions()
    made = make_plan(wanted.contents, remote, entries, wanted.portals, adopt=adopt)
    if wanted.filters is None:
        return made
    by_subject = {
        subject: tuple(wanted.filters.get(subject.target, ())) for subject in wanted.contents if subject.type == OBJECT
    }
    relevant = {
        subject: filters for subject, filters in by_subject.items()
        if filters or (subject in entries and entries[subject].filters)
    }  # fmt: skip
    changes = []
    for each in subjects_with_filters(made, remote, entries, relevant):
        if each.subject is not None:
            existing = await api.filters(each.id)
            changes.append(plan_filters(relevant[each.subject], existing, each, entries.get(each.subject)))
    puts = tuple(
        replace(put, new_filters=by_subject.get(put.subject, ())) if put.remote is None else put for put in made.puts
    )
    return replace(made, puts=puts, filters=tuple(change for change in changes if change))


def _wanted(settings: Settings, portals: tuple[list[int], frozenset[int]], file: Path | None) -> _Wanted:
    chosen, may_change = portals
    router = load_router(settings.handlers)
    desired = desired_of(router, settings)
    # A handler of every property needs no list of them here, unlike a push subscription.
    every = [parse_event(name) for name in router.registrations if name.endswith(".propertyChange")]
    events = {*desired.events, *(event for event in every if not gap(event))}
    gaps = [text for event in sorted(events) if (text := gap(event))]
    gaps += [text for name, text in desired.gaps_by_registration.items() if parse_event(name) not in events]
    return _Wanted(
        settings,
        frozenset(events),
        wanted_subscriptions(events, chosen),
        None if file is None else read_filters(file),
        may_change,
        tuple(gaps),
        tuple(sorted({preferred_scope(requirement) for requirement in desired.scopes})),
    )


async def _missing(wanted: _Wanted, made: JournalPlan, ledger: JournalLedger) -> _Missing | None:
    """Return since when workers have waited for what the plan adds; None if Redis does not answer."""
    settings, engine = wanted.settings, ledger.engine
    router, entries = load_router(settings.handlers), await ledger.read()
    installed = await read_portals(portal_store(settings, engine))
    try:
        async with operator_redis(settings) as redis:
            seen = await observe(settings, redis, engine)
    except (RedisError, OSError):
        return None
    seen = with_project(seen, PROJECT_FOLDER, desired_of(router, settings))
    awaited = awaited_events(wanted.events, router, seen, {each.portal_id: each.installed_at for each in installed})
    return {
        put.subject: dict(missing_events(put, entries.get(put.subject), wanted.events, awaited))
        for put in made.puts if put.is_wanted
    }  # fmt: skip


async def _report_missing(settings: Settings, engine: AsyncEngine, missing: _Missing) -> None:
    """Report the time in which the journal did not have these events of these portals."""
    each = [(subject.portal_id, name, at) for subject, since in missing.items() for name, at in since.items()]
    await report_missing_in_portals(settings, engine, each, until=clock.now_ms())


async def _portals(
    settings: Settings, store: PortalStore, chosen: list[int], without: list[int]
) -> tuple[list[int], frozenset[int]]:
    """Return the portals that need subscriptions, and all that may be changed.

    Raises:
        ConfigurationError: there are none.
    """
    if chosen:
        return [each for each in chosen if each not in without], frozenset({*chosen, *without})
    installed = await read_portals(store)
    present = {each.portal_id for each in installed if each.state is not PortalState.UNINSTALLED}
    gone = {each.portal_id for each in installed} - present
    needed = sorted((present or set(settings.portal_ids)) - set(without))
    if not needed and not without and not gone:
        raise ConfigurationError(["No portal has installed the app yet. Name one with --portal."])
    return needed, frozenset({*needed, *without, *gone})


def _print_plan(made: JournalPlan, *, as_json: bool) -> None:
    print_changes([PlannedChange(*line) for line in _lines(made)], details_as="detail", as_json=as_json)
    for blocked in made.blocked:
        print_message(
            f"{blocked} has rules of others for single actions, which a change would remove: edit it by hand."
        )
    print_foreign(made.foreign)


def _lines(made: JournalPlan) -> Iterator[tuple[str, str, str]]:
    """Return sign, subject and detail of each change."""
    for subject in made.forget:
        yield "~", f"{subject} forgotten", "nothing of it is ours"
    for subject in made.adopt:
        yield "~", f"{subject} adopted", ""
    for put in made.puts:
        yield "+" if put.remote is None else "~", str(put.subject), _text(put.content)
    for change in made.filters:
        yield from (("+", f"filter of {change.subject}", "") for _ in change.create)
        yield from (("-", f"filter of {change.subject}", "") for _ in change.delete)
    for each in made.deletions:
        yield "-", str(each.subject), "no handler needs it"


def _text(content: Content) -> str:
    return ", ".join([*sorted(content.actions), *sorted(content.properties)])
