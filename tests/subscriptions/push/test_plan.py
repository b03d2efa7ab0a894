"""The plan of an applied plan is empty, and subscriptions of others stay, whatever HubSpot and the ledger hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.subscriptions.desired_state import DesiredState
from spokes.subscriptions.push.api import PushSettings, RemoteSubscription
from spokes.subscriptions.push.ledger import LedgerEntry
from spokes.subscriptions.push.plan import PushPlan, make_plan
from spokes.subscriptions.subscribed_events import SubscribedEvent
from tests.subscriptions.desired import URL, desired_of

NOW = 1_795_442_400_000
EVENTS = st.sampled_from(
    [
        SubscribedEvent("contact", "creation"),
        SubscribedEvent("contact", "merge"),
        SubscribedEvent("contact", "propertyChange", "email"),
        SubscribedEvent("deal", "propertyChange", "amount"),
        SubscribedEvent("2-99", "creation"),
    ]
)
DESIRED = st.frozensets(EVENTS).map(lambda events: DesiredState(dict.fromkeys(events, ("handler",)), {}, {}, URL, 10))
SETTINGS = st.one_of(
    st.none(), st.builds(PushSettings, st.sampled_from(["", "https://old.example.com"]), st.sampled_from([0, 10, 25]))
)
REMOTE = st.lists(
    st.tuples(st.one_of(EVENTS, st.none()), st.booleans(), st.sampled_from([NOW, NOW - 86_400_000])), max_size=6
).map(lambda rows: [RemoteSubscription(number, *row) for number, row in enumerate(rows, 1)])
Ledger = dict[str, LedgerEntry]
LEDGER = st.dictionaries(EVENTS, st.one_of(st.none(), st.integers(1, 8)), max_size=5).map(
    lambda ids: {str(event): LedgerEntry(event, id_, NOW) for event, id_ in ids.items()}
)


def consistent(remote: list[RemoteSubscription], ledger: Ledger) -> Ledger:
    """Return the entries that can be: an id is of a subscription for the entry's event, or of none that exists."""
    events = {each.id: each.event for each in remote}
    return {
        name: entry
        for name, entry in ledger.items()
        if entry.subscription_id is None or events.get(entry.subscription_id, entry.event) == entry.event
    }


def applied(
    plan: PushPlan, settings: PushSettings | None, remote: list[RemoteSubscription], ledger: Ledger
) -> tuple[PushSettings | None, list[RemoteSubscription], Ledger]:
    """Return what HubSpot and the ledger hold after a plan."""
    deleted = {each.id for each in plan.delete}
    active = {each.id for each in plan.activate}
    after = [
        RemoteSubscription(each.id, each.event, each.is_active or each.id in active, each.created_at)
        for each in remote if each.id not in deleted
    ]  # fmt: skip
    entries = {name: entry for name, entry in ledger.items() if name not in plan.forget}
    for each in (*plan.recover, *plan.adopt):
        assert each.event is not None
        entries[str(each.event)] = LedgerEntry(each.event, each.id, NOW)
    for each in plan.delete:
        entries.pop(str(each.event), None)
    for number, event in enumerate(plan.create, 1_000):
        after.append(RemoteSubscription(number, event, is_active=True, created_at=NOW))
        entries[str(event)] = LedgerEntry(event, number, NOW)
    return plan.settings or settings, after, entries


@given(DESIRED, SETTINGS, REMOTE, LEDGER, st.booleans())
def test_plan_of_an_applied_plan_is_empty(
    desired: DesiredState,
    settings: PushSettings | None,
    remote: list[RemoteSubscription],
    ledger: Ledger,
    adopt: bool,
) -> None:
    ledger = consistent(remote, ledger)
    plan = make_plan(desired, settings, remote, ledger, adopt=adopt)
    state = applied(plan, settings, remote, ledger)
    again = make_plan(desired, *state, adopt=adopt)
    assert again.is_empty, again
    active = {each.event for each in state[1] if each.is_active}
    assert set(desired.events) <= active


@given(DESIRED, REMOTE, LEDGER)
def test_only_subscriptions_of_the_ledger_are_deleted(
    desired: DesiredState, remote: list[RemoteSubscription], ledger: Ledger
) -> None:
    ledger = consistent(remote, ledger)
    plan = make_plan(desired, None, remote, ledger)
    recorded = {entry.subscription_id for entry in ledger.values()} | {each.id for each in plan.recover}
    assert {each.id for each in plan.delete} <= recorded
    assert not {each.event for each in plan.delete} & set(desired.events)


@given(DESIRED, REMOTE)
def test_without_a_ledger_nothing_is_deleted(desired: DesiredState, remote: list[RemoteSubscription]) -> None:
    assert make_plan(desired, None, remote, {}).delete == ()


@pytest.mark.parametrize(
    ("at_hubspot", "set_to", "written"), [(25, None, None), (25, 40, 40), (25, 25, None), (0, None, 10), (0, 40, 40)]
)
def test_limit_of_requests_at_hubspot_yields_only_to_a_setting(
    at_hubspot: int, set_to: int | None, written: int | None
) -> None:
    desired = desired_of("contact.creation", max_concurrent_requests=set_to)
    plan = make_plan(desired, PushSettings(desired.target_url, at_hubspot), [], {}, adopt=False)
    assert (plan.settings and plan.settings.max_concurrent_requests) == written
