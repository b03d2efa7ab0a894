"""`subscriptions plan|apply`: compare the subscriptions of a legacy public app with the handlers, and change them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from getpass import getuser
from typing import Annotated

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
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, YesOption, confirm, print_message
from spokes.core import clock
from spokes.core.settings import Settings
from spokes.routing import load_router
from spokes.start_check import read_settings
from spokes.subscriptions.applied_plan import AppliedPlan
from spokes.subscriptions.desired_state import DesiredState, desired_state, unreachable_public_url
from spokes.subscriptions.drift.missing_subscriptions import missing_from, report_missing
from spokes.subscriptions.drift.report import read_registrations
from spokes.subscriptions.push.api import PushApi
from spokes.subscriptions.push.apply import apply_plan
from spokes.subscriptions.push.ledger import PushLedger
from spokes.subscriptions.push.plan import PushPlan, make_plan

_REQUIRED = ("HUBSPOT_APP_ID", "HUBSPOT_DEVELOPER_API_KEY")

AdoptOption = Annotated[
    bool, typer.Option("--adopt", help="Take over subscriptions that the handlers need: later applies may delete them.")
]


def plan(
    adopt: AdoptOption = False,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if there is something to change.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what `apply` would change in HubSpot for a legacy public app. It changes nothing.

    HUBSPOT_APP_ID names the app, HUBSPOT_DEVELOPER_API_KEY is the key of its developer account. Exit code 1 with
    --check if there is something to change.

    Example: HUBSPOT_APP_ID=7788990 spokes subscriptions plan
    """
    settings, desired = _desired()

    async def show(made: PushPlan, _api: PushApi, _ledger: PushLedger) -> int:
        _print_plan(made, desired, as_json=as_json)
        return 1 if check and not made.is_empty else 0

    raise typer.Exit(asyncio.run(_with_plan(settings, desired, show, adopt=adopt)))


def apply(
    adopt: AdoptOption = False, reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Change the subscriptions of a legacy public app to what the handlers need, after a confirmation.

    It deletes only subscriptions that it has created or adopted. Run it again if it was interrupted. Exit code 1 if
    HubSpot refused a part.

    Example: spokes subscriptions apply --reason "follow up on deals"
    """
    settings, desired = _desired()

    async def change(made: PushPlan, api: PushApi, ledger: PushLedger) -> int:
        if made.is_empty or not as_json:
            _print_plan(made, desired, as_json=as_json)
        if made.is_empty:
            return 0
        confirm("Change this in HubSpot?", yes=yes)
        result = AppliedPlan()
        await _report_missing(settings, ledger.engine, made.begins)  # first: a command that is killed reports nothing
        try:
            await apply_plan(made, api, ledger, result)
        finally:
            print_result(result, as_json=as_json)
            print_missing(await _report_missing(settings, ledger.engine, result.begun))
        return 1 if result.failures else 0

    raise typer.Exit(asyncio.run(_with_plan(settings, desired, change, adopt=adopt, reason=reason)))


async def _report_missing(settings: Settings, engine: AsyncEngine, names: Collection[str]) -> int | None:
    """Report the time in which handlers waited for these events, and HubSpot did not send them.

    Return how many events that are, None if Redis does not answer.
    """
    if not names:
        return 0
    router = load_router(settings.handlers)
    try:
        async with operator_redis(settings) as redis:
            since = missing_from(await read_registrations(settings, redis, engine, router), names)
            await report_missing(settings, redis, engine, since, until=clock.now_ms())
    except (RedisError, OSError):
        return None
    return len(since)


def _desired() -> tuple[Settings, DesiredState]:
    settings = read_settings(required=_REQUIRED)
    if note := unreachable_public_url(settings):
        print_message(note)
    return settings, desired_state(load_router(settings.handlers), settings)


async def _with_plan(
    settings: Settings,
    desired: DesiredState,
    work: Callable[[PushPlan, PushApi, PushLedger], Awaitable[int]],
    *,
    adopt: bool,
    reason: str = "",
) -> int:
    """Read HubSpot and the ledger, make a plan, and return what `work` returns."""
    async with open_audit_store(settings) as engine, PushApi(settings) as api:
        ledger = PushLedger.from_settings(settings, engine, getuser(), reason)
        entries = await ledger.read()
        made = make_plan(desired, await api.read_settings(), await api.list_subscriptions(), entries, adopt=adopt)
        return await work(made, api, ledger)


def _print_plan(made: PushPlan, desired: DesiredState, *, as_json: bool) -> None:
    changes = [PlannedChange(*line) for line in _lines(made, desired)]
    print_changes(changes, details_as="reasons", as_json=as_json)
    print_foreign(len(made.foreign))
    for gap in desired.gaps:
        print_message(gap)


def _lines(made: PushPlan, desired: DesiredState) -> Iterator[tuple[str, str, list[str]]]:
    """Return sign, subject and reasons of each change."""
    if made.settings is not None:
        before = made.settings_before
        for name, old, new in (
            ("targetUrl", before and before.target_url, made.settings.target_url),
            ("maxConcurrentRequests", before and before.max_concurrent_requests, made.settings.max_concurrent_requests),
        ):
            if old != new:
                yield "~" if old else "+", f"{name} {new}", [f"was {old}"] if old else []
    for event in made.forget:
        yield "~", f"{event} forgotten", ["HubSpot does not have it"]
    for subscription in made.recover:
        yield "~", f"{subscription.name} recovered", ["an interrupted apply created it"]
    for subscription in made.adopt:
        yield "~", f"{subscription.name} adopted", []
    for subscription in made.delete:
        yield "-", subscription.name, ["no handler registers for it"]
    for created in made.create:
        yield "+", str(created), list(desired.events[created])
    for subscription in made.activate:
        reasons = desired.events.get(subscription.event, ()) if subscription.event else ()
        yield "~", f"{subscription.name} active", list(reasons)
