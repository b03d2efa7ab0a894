"""The settings of one portal as commands, API and pages show them: without the values of handlers' own."""

from dataclasses import dataclass

from spokes.portals.profile import AccountDetails, PortalProfile
from spokes.portals.profile_store import ProfileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSettingsView:
    """What is set for one portal; empty texts and lists are not set.

    `account` is what HubSpot says, and `own` has the names of the settings of handlers' own.
    """

    portal_id: int
    name: str
    handlers: tuple[str, ...]
    events: tuple[str, ...]
    region: str
    time_zone: str
    currency: str
    account: AccountDetails
    own: tuple[str, ...]


def settings_view(profile: PortalProfile, store: ProfileStore) -> PortalSettingsView:
    """Return a portal's settings.

    Raises:
        SecretUnreadable: none of our keys opens the settings of handlers' own.
    """
    return PortalSettingsView(
        portal_id=profile.portal_id,
        name=profile.name,
        handlers=profile.handlers,
        events=profile.events,
        region=profile.region,
        time_zone=profile.time_zone,
        currency=profile.currency,
        account=profile.account,
        own=tuple(sorted(store.values(profile))),
    )
