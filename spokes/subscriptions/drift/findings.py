"""`Drift`: one kind of difference between what the handlers need and what arrives, with all its subjects."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class Severity(StrEnum):
    """How serious a drift is; the order is that of severity."""

    NOTICE = "notice"  # may be as it should be
    WARNING = "warning"  # costs something, or will
    FAULT = "fault"  # events that a handler waits for do not come


@unique
class DriftKind(StrEnum):
    """The kinds of drift."""

    NEVER_ARRIVED = "never_arrived"
    SUBSCRIBED_WITHOUT_EVENT = "subscribed_without_event"
    STOPPED = "stopped"
    UNREGISTERED = "unregistered"
    EXCLUDED = "excluded"
    ALLOWED_WITHOUT_HANDLER = "allowed_without_handler"
    BOTH_DIALECTS = "both_dialects"
    CALCULATED_PROPERTY = "calculated_property"
    NO_SUBSCRIPTION = "no_subscription"
    CUSTOM_OBJECT = "custom_object"
    SCOPE_MISSING = "scope_missing"
    TARGET_SILENT = "target_silent"
    TARGET_NEVER_REACHED = "target_never_reached"
    NO_TARGET = "no_target"
    UNSERVED_PORTAL = "unserved_portal"
    UNUSED_SUBSCRIPTION = "unused_subscription"
    PROJECT_DIFFERS = "project_differs"


# What each kind means, and what to do.
EXPLANATIONS: Final[Mapping[DriftKind, str]] = {
    DriftKind.NEVER_ARRIVED: (
        "No event has matched these registrations since a worker first had them. That is right for rare events. If you "
        "expect some, check in HubSpot that the app has an active webhook subscription for the event type and "
        "property, and that its target URL is the one below; and that ALLOWED_EVENTS does not exclude them."
    ),
    DriftKind.SUBSCRIBED_WITHOUT_EVENT: (
        "A subscription exists, and no event has come. Check in HubSpot that it is active and deployed, that the "
        "account has the app installed, and that the app's target URL is this deployment's."
    ),
    DriftKind.STOPPED: (
        "These events came regularly and stopped, while others still come. Check in HubSpot whether the subscription "
        "was deleted or paused, or the property was renamed."
    ),
    DriftKind.UNREGISTERED: (
        "HubSpot sends these events and no handler registers for them. Each costs a part of a request. Remove the "
        "subscription in HubSpot, or write a handler."
    ),
    DriftKind.EXCLUDED: (
        "ALLOWED_EVENTS excludes these registrations, so their handlers never run. Remove the entry, or the handler."
    ),
    DriftKind.ALLOWED_WITHOUT_HANDLER: (
        "ALLOWED_EVENTS accepts these events, and no handler registers for them: they are queued for nothing. Remove "
        "the entry."
    ),
    DriftKind.BOTH_DIALECTS: (
        "HubSpot sends these events in both dialects, so each comes twice. Delete one of the two subscriptions: the "
        "classic one, such as contact.creation, or the generic one, such as object.creation."
    ),
    DriftKind.CALCULATED_PROPERTY: (
        "HubSpot calculates these properties, and is reported to send no events when they change. Register for the "
        "properties that they are calculated from."
    ),
    DriftKind.NO_SUBSCRIPTION: "No single subscription of HubSpot covers these registrations, and no event has come.",
    DriftKind.CUSTOM_OBJECT: (
        "HubSpot sends events of custom objects to private apps only, and this deployment's app is installed by OAuth."
    ),
    DriftKind.SCOPE_MISSING: (
        "HubSpot sends no events, or refuses calls, without these scopes. Add them to the app's required scopes "
        "(`spokes subscriptions export` does), then have the app installed again or its token renewed."
    ),
    DriftKind.TARGET_SILENT: (
        "HubSpot normally sends events at these hours, and none has come. Check that the app's target URL is this "
        "deployment's, that the app is installed, and `spokes doctor` for refused requests."
    ),
    DriftKind.TARGET_NEVER_REACHED: (
        "No event of HubSpot has ever come. Check that the app has subscriptions, that its target URL is this "
        "deployment's, and that the app is installed in the account."
    ),
    DriftKind.NO_TARGET: "HubSpot calls https URLs only. Set PUBLIC_URL to the URL of the web process.",
    DriftKind.UNSERVED_PORTAL: (
        "Events come of portals that PORTAL_IDS does not list, and are ignored. Add the portal, or remove the app."
    ),
    DriftKind.UNUSED_SUBSCRIPTION: (
        "Spokes created these subscriptions, and no handler registers for them any more. `spokes subscriptions apply` "
        "or `export` removes them."
    ),
    DriftKind.PROJECT_DIFFERS: (
        "The files of the HubSpot project differ from what the handlers need. Run `spokes subscriptions export`, then "
        "`hs project upload`."
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drift:
    """One kind of drift; `subjects` are registrations, event types, portals or scopes, each with a detail."""

    kind: DriftKind
    severity: Severity
    subjects: Mapping[str, str]

    @property
    def explanation(self) -> str:
        """What it means and what to do."""
        return EXPLANATIONS[self.kind]
