"""What HubSpot must send and grant, derived from the router: events, scopes with their reasons, settings. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from spokes.core.errors import ConfigurationError
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.settings.url_parts import is_loopback
from spokes.crm.scopes import Declaration, ScopeRequirement, event_scopes, scope_causes
from spokes.routing import NO_HANDLERS, Route, Router
from spokes.subscriptions.subscribed_events import GENERIC, SubscribedEvent, parse_event

MAX_SUBSCRIPTIONS: Final = 1_000  # HubSpot allows each app this many
_Key = TypeVar("_Key")
_TYPES_WITH_ERASURE: Final = ("contact", "conversation")


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What the handlers of a deployment need of the HubSpot app.

    Attributes:
        events: each event with the handlers that register for it, as `deals.follow_up in handlers/deals.py:8`.
        scopes: each scope, as alternatives of which one is enough, with what needs it.
        gaps_by_registration: a sentence for each registration that no single subscription covers.
        target_url: where HubSpot sends events; empty if PUBLIC_URL is not set, or an address of this machine.
        max_concurrent_requests: how many requests HubSpot may have in flight for one account.
        owns_concurrency: the deployment sets that number; otherwise it is a default, and what HubSpot has stays.
    """

    events: Mapping[SubscribedEvent, tuple[str, ...]]
    scopes: Mapping[ScopeRequirement, tuple[str, ...]]
    gaps_by_registration: Mapping[str, str]
    target_url: str
    max_concurrent_requests: int
    owns_concurrency: bool = False

    @property
    def gaps(self) -> tuple[str, ...]:
        """The sentences about registrations that no single subscription covers."""
        return tuple(self.gaps_by_registration.values())


def desired_state(router: Router, settings: Settings) -> DesiredState:
    """Derive the desired state of a deployment.

    Raises:
        ConfigurationError: there are no handlers, more events than HubSpot allows subscriptions, or PUBLIC_URL is no
            address that HubSpot calls.
    """
    if not router.registrations:
        raise ConfigurationError([NO_HANDLERS])
    router = router.sent_by_hubspot()
    events: dict[SubscribedEvent, tuple[str, ...]] = {}
    scopes: dict[ScopeRequirement, tuple[str, ...]] = {}
    gaps: dict[str, str] = {}
    for registration, route in router:
        event = parse_event(registration)
        if gap := _gap(event, route):
            gaps.setdefault(registration, gap)
        else:
            for each in _covered_events(event):
                _add(events, each, f"{route.name} in {route.place}")
        for requirement, cause in _scope_causes(event, route):
            _add(scopes, requirement, f"{cause} in {route.place}")
    if len(events) > MAX_SUBSCRIPTIONS:
        raise ConfigurationError(
            [f"The handlers register for {len(events)} events, and HubSpot allows an app {MAX_SUBSCRIPTIONS}."]
        )
    return DesiredState(
        events, scopes, gaps, _target_url(settings.public_url), settings.hubspot_max_concurrent_requests,
        "hubspot_max_concurrent_requests" in settings.model_fields_set,
    )  # fmt: skip


def preferred_scope(requirement: ScopeRequirement) -> str:
    """Return the alternative to ask for: `tickets` and `e-commerce`, which the webhooks of their types need."""
    return max(requirement, key=lambda scope: (not scope.startswith("crm.objects."), scope))


def missing_scopes(
    scopes: Mapping[ScopeRequirement, tuple[str, ...]], granted: Iterable[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the scopes to add to `granted`, in alphabetical order, each with its reasons."""
    known = frozenset(granted)
    missing: dict[str, tuple[str, ...]] = {}
    for requirement in sorted(scopes, key=preferred_scope):
        if not requirement & known:
            for reason in scopes[requirement]:
                _add(missing, preferred_scope(requirement), reason)
    return missing


def _add(reasons: dict[_Key, tuple[str, ...]], key: _Key, reason: str) -> None:
    known = reasons.get(key, ())
    reasons[key] = known if reason in known else (*known, reason)


def unreachable_public_url(settings: Settings) -> str:
    """Return a sentence if PUBLIC_URL is an address of this machine, as `spokes up` sets it; empty if it is not."""
    if not _is_on_this_machine(settings.public_url):
        return ""
    return (
        f"PUBLIC_URL is {settings.public_url}, an address of this machine, as of a running `spokes up`: HubSpot cannot "
        "call it, so the target URL stays as it is. To change it, set PUBLIC_URL to the https URL of the web process."
    )


def _is_on_this_machine(url: str) -> bool:
    return url.startswith("http://") and is_loopback(urlsplit(url).hostname or "")


def _target_url(public_url: str) -> str:
    if _is_on_this_machine(public_url):
        return ""
    if public_url and not public_url.startswith("https://"):
        raise ConfigurationError(
            ["PUBLIC_URL is no https URL, and HubSpot calls no other: set it to the URL of the web process."]
        )
    return f"{public_url}{RECEIVER_PATH}" if public_url else ""


def _gap(event: SubscribedEvent, route: Route) -> str:
    """Return why no single subscription covers a registration, the empty text if one does."""
    place = f"{route.place}: {route.name} registers for {event}"
    if event.object_type == GENERIC and event.kind != "privacyDeletion":
        return (
            f"{place}, and a subscription names one object type. Register for each type, such as contact.{event.kind}."
        )
    if event.object_type == "event":
        return f"{place}, and a subscription names a custom event. Create them in HubSpot."
    if event.kind == "propertyChange" and not event.property_name:
        return (
            f"{place} without a property, and a subscription names one property. Register for each property: "
            f'@router.register("{event.type}", property="...").'
        )
    return ""


def _covered_events(event: SubscribedEvent) -> tuple[SubscribedEvent, ...]:
    if event.object_type == GENERIC:
        return tuple(SubscribedEvent(name, event.kind) for name in _TYPES_WITH_ERASURE)
    return (event,)


def _scope_causes(event: SubscribedEvent, route: Route) -> Iterator[tuple[ScopeRequirement, str]]:
    yield from ((requirement, str(event)) for requirement in event_scopes(event.object_type))
    yield from scope_causes(Declaration(event.object_type, route.uses.reads, route.uses.may))
