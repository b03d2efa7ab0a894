"""Compare the desired state with what HubSpot has: the fewest changes that lead from one to the other. Pure.

Only a subscription in the ledger is deleted. One that others created is activated if the handlers need it, and
otherwise stays as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import ConfigurationError
from spokes.subscriptions.desired_state import MAX_SUBSCRIPTIONS, DesiredState
from spokes.subscriptions.push.api import PushSettings, RemoteSubscription
from spokes.subscriptions.push.ledger import LedgerEntry
from spokes.subscriptions.subscribed_events import SubscribedEvent

_WINDOW_MS: Final = 600_000  # between our record of an attempt and HubSpot's time of the subscription; clocks differ


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What an apply does, in the order in which it does it.

    Attributes:
        settings: the settings to write, None if they are right; `settings_before` are HubSpot's.
        recover: subscriptions that an interrupted apply created: they are added to the ledger.
        adopt: subscriptions of others that are added to the ledger.
        forget: events in the ledger whose subscription is gone from HubSpot, or was never created.
        delete: subscriptions of ours that no handler needs.
        create: events to subscribe to.
        activate: subscriptions that exist and are not active.
        foreign: subscriptions that are not ours and that no handler needs: they stay.
    """

    settings: PushSettings | None
    settings_before: PushSettings | None
    recover: tuple[RemoteSubscription, ...]
    adopt: tuple[RemoteSubscription, ...]
    forget: tuple[str, ...]
    delete: tuple[RemoteSubscription, ...]
    create: tuple[SubscribedEvent, ...]
    activate: tuple[RemoteSubscription, ...]
    foreign: tuple[RemoteSubscription, ...]

    @property
    def begins(self) -> frozenset[str]:
        """The events that HubSpot will send, and does not send now."""
        return frozenset({*map(str, self.create), *(each.name for each in self.activate)})

    @property
    def is_empty(self) -> bool:
        """Whether HubSpot has all that the handlers need, and the ledger all that is ours."""
        return not (
            self.settings or self.recover or self.adopt or self.forget or self.delete or self.create or self.activate
        )


def make_plan(
    desired: DesiredState,
    settings: PushSettings | None,
    remote: Sequence[RemoteSubscription],
    ledger: Mapping[str, LedgerEntry],
    *,
    adopt: bool = False,
) -> PushPlan:
    """Return the changes from what HubSpot has to the desired state.

    Args:
        ledger: what we created, or began to create, by event.
        adopt: add the subscriptions that the handlers need to the ledger, so that a later apply may delete them.

    Raises:
        ConfigurationError: there is no target URL, or there would be more subscriptions than HubSpot allows.
    """
    by_event: dict[SubscribedEvent, list[RemoteSubscription]] = {}
    for subscription in remote:
        if subscription.event is not None:
            by_event.setdefault(subscription.event, []).append(subscription)
    recorded = {entry.subscription_id for entry in ledger.values()} - {None}
    recovered = [found for entry in ledger.values() if (found := _created_by(entry, by_event))]
    owned = {each.id for each in remote if each.id in recorded} | {each.id for each in recovered}
    needed = {event: by_event[event] for event in desired.events if event in by_event}
    adopted = [
        _best(group, owned) for group in needed.values() if adopt and not any(each.id in owned for each in group)
    ]
    delete = [each for each in remote if each.id in owned and each.event not in desired.events]
    create = sorted(desired.events.keys() - needed.keys())
    inactive = [_best(group, owned) for group in needed.values() if not any(each.is_active for each in group)]
    if (count := len(remote) - len(delete) + len(create)) > MAX_SUBSCRIPTIONS:
        raise ConfigurationError([_too_many(count, len(create), len(remote) - len(owned))])
    present = {each.id for each in remote}
    recovered_events = {each.event for each in recovered}
    return PushPlan(
        settings=_changed_settings(desired, settings),
        settings_before=settings,
        recover=tuple(recovered),
        adopt=tuple(adopted),
        forget=tuple(
            event
            for event, entry in ledger.items()
            if entry.subscription_id not in present
            and entry.event not in recovered_events
            and not (entry.subscription_id is None and entry.event in desired.events)
        ),
        delete=tuple(delete),
        create=tuple(create),
        activate=tuple(inactive),
        foreign=tuple(each for each in remote if each.id not in owned and each.event not in desired.events),
    )


def _too_many(count: int, new: int, foreign: int) -> str:
    return (
        f"The app would have {count} subscriptions, and HubSpot allows {MAX_SUBSCRIPTIONS}: {new} are to be created, "
        f"and {foreign} that Spokes did not create stay. Delete some of those in HubSpot."
    )


def is_of_attempt(subscription: RemoteSubscription, attempted_at: int) -> bool:
    """Return whether a subscription was created at the time (epoch ms) at which we tried to."""
    return abs(subscription.created_at - attempted_at) <= _WINDOW_MS


def _created_by(
    entry: LedgerEntry, by_event: Mapping[SubscribedEvent, Iterable[RemoteSubscription]]
) -> RemoteSubscription | None:
    """Return the subscription that an interrupted apply created before it could record the id."""
    if entry.subscription_id is not None:
        return None
    return next((each for each in by_event.get(entry.event, ()) if is_of_attempt(each, entry.changed_at)), None)


def _best(group: Sequence[RemoteSubscription], owned: set[int]) -> RemoteSubscription:
    """Return one subscription of an event: ours before others, active before inactive."""
    return max(group, key=lambda each: (each.id in owned, each.is_active, -each.id))


def _changed_settings(desired: DesiredState, before: PushSettings | None) -> PushSettings | None:
    target_url = desired.target_url or (before.target_url if before else "")
    if not target_url:
        raise ConfigurationError(
            ["The app has no target URL yet. Set PUBLIC_URL to the URL of the web process, such as https://your-host."]
        )
    limit = before.max_concurrent_requests if before and not desired.owns_concurrency else 0
    wanted = PushSettings(target_url, limit or desired.max_concurrent_requests)
    return None if wanted == before else wanted
