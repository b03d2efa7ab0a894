"""Which handlers and event types are switched off in single portals, at admission and before a handler is called."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from spokes.core.events import Event
from spokes.intake.allow_list import AllowList
from spokes.portals.published_profiles import PublishedProfiles
from spokes.routing import Router

if TYPE_CHECKING:
    from spokes.portals.profile import PortalProfile


class PortalAllowLists:
    """Keeps the allow lists of restricted portals in the deployment's allow list up to date."""

    def __init__(
        self, allow_list: AllowList, router: Router, allowed_events: Iterable[str], profiles: PublishedProfiles
    ) -> None:
        """Restrict `allow_list`, which was made of `router` and `allowed_events`."""
        self._allow_list = allow_list
        self._router = router
        self._allowed_events = tuple(allowed_events)
        self._profiles = profiles

    async def refresh(self) -> None:
        """Read the profiles again if they have changed.

        Raises:
            RedisError, OSError: Redis does not answer; the known restrictions stay.
        """
        if await self._profiles.refresh():
            portals = self._profiles.restricted
            self._allow_list.portals = {portal_id: self._restricted(portal_id) for portal_id in portals}

    def _restricted(self, portal_id: int) -> AllowList:
        profile = self._profiles.get(portal_id)
        registrations = [registration for registration, route in self._router if profile.has_handler(route.name)]
        return AllowList(registrations, self._allowed_events, only=profile.events)


class HandlerSwitches:
    """Whether a handler is switched off for an event that was admitted before the switch, or for another handler."""

    def __init__(self, router: Router, profiles: PublishedProfiles) -> None:
        self._registrations = router.registrations
        self._profiles = profiles
        self._events: dict[int, tuple[PortalProfile, AllowList]] = {}

    def is_off(self, event: Event, handler: str) -> bool:
        """Return whether the handler must not be called."""
        portal_id = event.portal_id
        if portal_id not in self._profiles.restricted:
            return False
        profile = self._profiles.get(portal_id)
        if not profile.has_handler(handler):
            return True
        known = self._events.get(portal_id)
        if known is None or known[0] is not profile:
            known = self._events[portal_id] = profile, AllowList(self._registrations, only=profile.events)
        return not known[1].allows(event)
