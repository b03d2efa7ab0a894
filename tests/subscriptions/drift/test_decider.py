"""Where what arrives differs from what the handlers register for: one case for each kind of drift."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.intake.arrivals import DAY_MS, HOUR_MS, StoredArrivals
from spokes.queue.registration_times import RegistrationTime
from spokes.routing import Router
from spokes.subscriptions.drift.decider import assess_drift, desired_of
from spokes.subscriptions.drift.findings import DriftKind, Severity
from spokes.subscriptions.drift.observations import Observations
from spokes.subscriptions.drift.target import missed_hours
from spokes.tools import Tools

NOW = 20_850 * DAY_MS + 12 * HOUR_MS + 1
TODAY, NOW_H = NOW // DAY_MS, NOW // HOUR_MS
ALWAYS = tuple(range(NOW_H - 28 * 24, NOW_H + 1))
OFFICE_HOURS = tuple(hour for hour in ALWAYS if 8 <= hour % 24 < 18 and hour // 24 % 7 < 5)
DAILY = tuple(range(28))
GRANTED = frozenset({"crm.objects.contacts.read", "crm.objects.deals.read", "crm.objects.custom.read"})
HEALTHY = {"contact.creation": DAILY, "deal.propertyChange:amount": DAILY}


@dataclass(frozen=True)
class Case:
    """What a test knows: the registrations, and for each event type the days since its events came.

    A registration has been there for `age` days; `matched` are those that an event matched in earlier times.
    """

    registrations: tuple[str, ...] = ("contact.creation", "deal.propertyChange:amount")
    came: Mapping[str, Sequence[int]] = field(default_factory=lambda: HEALTHY)
    ignored: Mapping[str, int] = field(default_factory=dict)
    hours: tuple[int, ...] = ALWAYS
    age: int = 60
    matched: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    scopes: Mapping[str, frozenset[str]] = field(default_factory=lambda: {"portal 7": GRANTED})
    owned: tuple[str, ...] = ()
    subscribed: tuple[str, ...] = ()
    unserved: Mapping[int, int] = field(default_factory=dict)
    project_changes: Mapping[str, str] = field(default_factory=dict)


def drifts(case: Case) -> dict[DriftKind, tuple[Severity, list[str]]]:
    """Return severity and subjects of each drift."""
    router = Router()

    async def follow(event: Event, tools: Tools) -> None: ...

    for registration in case.registrations:
        event_type, _, name = registration.partition(":")
        router.register(event_type, property=name or None)(follow)
    settings = Settings.from_env({"PUBLIC_URL": "https://hooks.example.com", **case.settings})
    arrivals = StoredArrivals(
        at={name: [NOW - day * DAY_MS for day in days] for name, days in case.came.items()},
        ignored=Counter(case.ignored),
        hours=set(case.hours),
        unserved=Counter(case.unserved),
    )
    registered = NOW - case.age * DAY_MS
    times = {name: RegistrationTime(registered, registered if name in case.matched else None)
             for name in case.registrations}  # fmt: skip
    seen = Observations(
        NOW, arrivals, times, case.scopes, frozenset(case.owned), frozenset(case.subscribed), case.project_changes
    )
    found = assess_drift(router, settings, desired_of(router, settings), seen)
    return {drift.kind: (drift.severity, list(drift.subjects)) for drift in found}


FAULT, WARNING, NOTICE = Severity.FAULT, Severity.WARNING, Severity.NOTICE
TARGET = "https://hooks.example.com/webhooks/hubspot"
TWO = ("contact.creation", "deal.propertyChange:amount")
SCENARIOS: Mapping[str, tuple[Case, DriftKind, Severity, list[str]]] = {
    "subscription that nobody created": (
        Case((*TWO, "deal.creation")), DriftKind.NEVER_ARRIVED, FAULT, ["deal.creation"],
    ),
    "subscription that sends nothing": (
        Case((*TWO, "deal.creation"), subscribed=("deal.creation",)),
        DriftKind.SUBSCRIBED_WITHOUT_EVENT, FAULT, ["deal.creation"],
    ),
    "rare event that never came": (
        Case((*TWO, "deal.merge")), DriftKind.NEVER_ARRIVED, NOTICE, ["deal.merge"],
    ),
    "subscription that was deleted": (
        Case(came={**HEALTHY, "contact.creation": DAILY[4:]}), DriftKind.STOPPED, FAULT, ["contact.creation"],
    ),
    "event type without a handler": (
        Case(came={**HEALTHY, "deal.deletion": [0, 1]}, ignored={"deal.deletion": 12}),
        DriftKind.UNREGISTERED, WARNING, ["deal.deletion"],
    ),
    "property without a handler": (
        Case(came={**HEALTHY, "deal.propertyChange:closedate generic": [0]},
             ignored={"deal.propertyChange:closedate generic": 1}),
        DriftKind.UNREGISTERED, WARNING, ["deal.propertyChange:closedate"],
    ),
    "event type of the journal without a handler": (
        Case(came={**HEALTHY, "deal.deletion journal": [0]}, ignored={"deal.deletion journal": 2}),
        DriftKind.UNREGISTERED, WARNING, ["deal.deletion"],
    ),
    "registration that ALLOWED_EVENTS excludes": (
        Case(settings={"ALLOWED_EVENTS": "-contact.creation"}), DriftKind.EXCLUDED, FAULT, ["contact.creation"],
    ),
    "event type that ALLOWED_EVENTS accepts for nobody": (
        Case(came={**HEALTHY, "ticket.creation": [1]}, settings={"ALLOWED_EVENTS": "ticket.creation"}),
        DriftKind.ALLOWED_WITHOUT_HANDLER, WARNING, ["ticket.creation"],
    ),
    "subscriptions in both dialects": (
        Case(came={**HEALTHY, "contact.creation generic": [0, 1]}),
        DriftKind.BOTH_DIALECTS, WARNING, ["contact.creation"],
    ),
    "property that HubSpot calculates": (
        Case((*TWO, "deal.propertyChange:hs_time_in_12345")),
        DriftKind.CALCULATED_PROPERTY, WARNING, ["deal.propertyChange:hs_time_in_12345"],
    ),
    "registration that no subscription covers": (
        Case((*TWO, "ticket.propertyChange"), scopes={}),
        DriftKind.NO_SUBSCRIPTION, WARNING, ["ticket.propertyChange"],
    ),
    "custom object of an app with OAuth": (
        Case((*TWO, "2-1234567.creation"), settings={"HUBSPOT_CLIENT_ID": "0c3f6d0c-2e8b-4e57-9c34-7a5e2d10b9f8",
                                                     "HUBSPOT_CLIENT_SECRET": "3f6d0c2e-8b1a-4e57-9c34-7a5e2d10b9f8",
                                                     "SECRETS_KEY": "3f6d0c2e8b1a4e579c347a5e2d10b9f8"}),
        DriftKind.CUSTOM_OBJECT, WARNING, ["2-1234567.creation"],
    ),
    "scope that the token lacks": (
        Case(scopes={"portal 7": frozenset({"crm.objects.deals.read"})}),
        DriftKind.SCOPE_MISSING, FAULT, ["crm.objects.contacts.read of portal 7"],
    ),
    "scope that one of many portals lacks": (
        Case(scopes={"portal 7": GRANTED, "portal 8": GRANTED - {"crm.objects.deals.read"}}),
        DriftKind.SCOPE_MISSING, FAULT, ["crm.objects.deals.read of portal 8"],
    ),
    "target URL that HubSpot stopped calling": (
        Case(hours=ALWAYS[:-8]), DriftKind.TARGET_SILENT, FAULT, [TARGET],
    ),
    "target URL that HubSpot never called": (
        Case(came={}, hours=(), age=2), DriftKind.TARGET_NEVER_REACHED, FAULT, [TARGET],
    ),
    "address that HubSpot cannot call": (
        Case(settings={"PUBLIC_URL": "http://127.0.0.1:8080"}), DriftKind.NO_TARGET, NOTICE, ["http://127.0.0.1:8080"],
    ),
    "portal that PORTAL_IDS leaves out": (
        Case(unserved={8: 40}, settings={"PORTAL_IDS": "7"}), DriftKind.UNSERVED_PORTAL, WARNING, ["portal 8"],
    ),
    "subscription of ours without a handler": (
        Case(owned=("contact.creation", "ticket.creation")),
        DriftKind.UNUSED_SUBSCRIPTION, WARNING, ["ticket.creation"],
    ),
    "project with the target URL of last year": (
        Case(project_changes={f"~ targetUrl {TARGET}": "was https://old.example.com"}),
        DriftKind.PROJECT_DIFFERS, WARNING, [f"~ targetUrl {TARGET}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_drift_is_found_alone(name: str) -> None:
    case, kind, severity, subjects = SCENARIOS[name]
    assert drifts(case) == {kind: (severity, subjects)}


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(hours=OFFICE_HOURS),
        Case(hours=OFFICE_HOURS[:-2]),
        Case(came={**HEALTHY, "contact.creation": [3, 20]}),
        Case(came={**HEALTHY, "contact.creation": [*range(4, 28, 4)]}),
        Case((*TWO, "deal.creation"), age=6),
        Case((*TWO, "deal.creation"), matched=("deal.creation",)),
        Case(came={}, hours=(), age=0),
        Case(came={**HEALTHY, "deal.deletion": [0]}, ignored={"deal.deletion": 3},
             settings={"ALLOWED_EVENTS": "-deal.deletion"}),
        Case(came={**HEALTHY, "contact.creation generic": DAILY[10:]}),
        Case(("object.creation", "deal.propertyChange"), came={**HEALTHY, "ticket.creation generic": [2]}),
        Case(scopes={}),
        Case(scopes={"portal 7": frozenset()}),
        Case(owned=TWO, subscribed=TWO),
        Case(came={**HEALTHY, "contact.creation journal": DAILY}),
        Case(came={f"{name} journal": DAILY for name in TWO}, hours=(), matched=TWO),
    ],
)  # fmt: skip
def test_healthy_deployment_has_no_drift(case: Case) -> None:
    assert drifts(case) == {}


def test_nights_and_weekends_are_no_silence() -> None:
    monday = next(hour for hour in range(NOW_H, NOW_H + 400) if hour // 24 % 7 == 0 and hour % 24 == 7)
    hours = tuple(hour for hour in range(monday - 28 * 24, monday) if 8 <= hour % 24 < 18 and hour // 24 % 7 < 5)
    assert missed_hours(hours, monday) == 0.0
    assert missed_hours(hours, monday + 8) == 7.0


def test_most_serious_drift_is_first() -> None:
    case = Case((*TWO, "deal.merge"), settings={"ALLOWED_EVENTS": "-contact.creation"}, unserved={8: 1})
    assert [severity for severity, _ in drifts(case).values()] == [FAULT, WARNING, NOTICE]
