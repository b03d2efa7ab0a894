"""What handlers see of their event's portal, and which of them run for it."""

from collections.abc import Mapping
from typing import Final

import structlog

from spokes.core.errors import SecretUnreadable
from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.intake.portal_restrictions import HandlerSwitches
from spokes.portal import EventPortal
from spokes.portals.profile import PortalProfile
from spokes.portals.profile_store import opened_values
from spokes.portals.published_profiles import PublishedProfiles
from spokes.routing import Router

_MAX_PORTALS: Final = 1_000
log = structlog.get_logger()


class HandlerPortals:
    """The portals of one worker process, as the published profiles describe them."""

    def __init__(self, settings: Settings, router: Router, profiles: PublishedProfiles) -> None:
        self.profiles = profiles
        self._default_region = settings.default_region
        self._vault = Vault.from_settings(settings)
        self._switches = HandlerSwitches(router, profiles)
        self._portals: dict[int, tuple[PortalProfile, EventPortal]] = {}

    def region(self, portal_id: int) -> str:
        """Return the country of a portal's phone numbers without a +."""
        return self.profiles.get(portal_id).region or self._default_region

    def is_off(self, event: Event, handler: str) -> bool:
        """Return whether a handler is switched off for an event."""
        return self._switches.is_off(event, handler)

    def portal(self, portal_id: int) -> EventPortal:
        """Return what handlers see of a portal.

        Raises:
            SecretUnreadable: none of our keys opens its settings.
        """
        profile = self.profiles.get(portal_id)
        known = self._portals.get(portal_id)
        if known is not None and known[0] is profile:
            return known[1]
        portal = EventPortal(
            portal_id, profile.shown_name, profile.zone, profile.currency or profile.account.currency,
            profile.region or self._default_region, self._values(profile),
        )  # fmt: skip
        if len(self._portals) >= _MAX_PORTALS:
            self._portals.pop(next(iter(self._portals)))
        self._portals[portal_id] = profile, portal
        return portal

    def _values(self, profile: PortalProfile) -> Mapping[str, str]:
        try:
            return opened_values(self._vault, profile)
        except SecretUnreadable:
            log.error(  # noqa: TRY400 - the traceback says nothing
                "portal_settings_unreadable", portal_id=profile.portal_id, advice="Add the earlier key to SECRETS_KEY."
            )
            raise
