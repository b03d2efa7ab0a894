"""The state of every installed portal, as this process last read it from SQL. It holds no tokens."""

import time
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from spokes.core.clock import now_ms
from spokes.core.errors import AuditUnavailable
from spokes.portals.store import PortalState, PortalStore

REFRESH_EVERY_S: Final = 5.0
_OVERLAP_MS: Final = 600_000  # clocks of the processes that write differ
_RELOAD_EVERY_S: Final = 600.0


class PortalDirectory:
    """The portals by state; `refresh` reads what has changed."""

    def __init__(self, store: PortalStore, portal_ids: Collection[int] = ()) -> None:
        """Read the portals of `store`; those that `portal_ids` excludes are no portals of ours. Empty excludes none."""
        self._store = store
        self._portal_ids = frozenset(portal_ids)
        self._installed: set[int] = set()
        self._uninstalled: set[int] = set()
        self._paused: set[int] = set()
        self._needs_reinstall: set[int] = set()
        self._read_at_ms = 0
        self._loaded_at: float | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether the portals were read once."""
        return self._loaded_at is not None

    @property
    def installed(self) -> AbstractSet[int]:
        """The portals whose tokens work, paused ones included."""
        return self._installed

    @property
    def uninstalled(self) -> AbstractSet[int]:
        """The portals that removed the app."""
        return self._uninstalled

    @property
    def needs_reinstall(self) -> AbstractSet[int]:
        """The portals whose refresh token HubSpot refuses for good."""
        return self._needs_reinstall

    @property
    def paused(self) -> AbstractSet[int]:
        """The portals whose work an operator has paused in the store."""
        return self._paused

    async def refresh(self) -> None:
        """Read the states that have changed; keep the known ones while the store does not answer."""
        now = time.monotonic()
        is_reload = self._loaded_at is None or now - self._loaded_at > _RELOAD_EVERY_S
        started_ms = now_ms()
        try:
            changed = await self._store.changed_since(0 if is_reload else self._read_at_ms - _OVERLAP_MS)
        except AuditUnavailable:
            return  # the archiver reports the outage
        if is_reload:
            self._loaded_at = now
            for portals in (self._installed, self._uninstalled, self._needs_reinstall, self._paused):
                portals.intersection_update(changed)
        self._read_at_ms = started_ms
        for portal_id, state in changed.items():
            self.set_state(portal_id, state)

    async def refresh_one(self, portal_id: int) -> bool:
        """Read the state of one portal, before anything is decided by it; return whether the store answered."""
        try:
            portal = await self._store.get(portal_id)
        except AuditUnavailable:
            return False
        self.set_state(portal_id, None if portal is None else portal.state)
        return True

    def set_state(self, portal_id: int, state: PortalState | None) -> None:
        """Note a portal's state; None if there is no such portal."""
        if self._portal_ids and portal_id not in self._portal_ids:
            state = None
        for portals, states in (
            (self._installed, {PortalState.INSTALLED, PortalState.PAUSED}),
            (self._uninstalled, {PortalState.UNINSTALLED}),
            (self._needs_reinstall, {PortalState.NEEDS_REINSTALL}),
            (self._paused, {PortalState.PAUSED}),
        ):
            if state in states:
                portals.add(portal_id)
            else:
                portals.discard(portal_id)
