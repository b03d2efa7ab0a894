"""The portals that a command reads records of."""

from collections.abc import Sequence

from spokes.core.errors import RecoveryRefused


def chosen_portals(portals: Sequence[int], portal_id: int | None) -> list[int]:
    """Return the chosen portal, or all with credentials.

    Raises:
        RecoveryRefused: there are no credentials for it, or for any.
    """
    if portal_id is not None and portal_id not in portals:
        names = ", ".join(map(str, portals)) or "none"
        raise RecoveryRefused(f"There are no credentials for portal {portal_id}. Portals with credentials: {names}.")
    if not portals:
        raise RecoveryRefused("There are no credentials for any portal. Set HUBSPOT_ACCESS_TOKEN, or install the app.")
    return [portal_id] if portal_id is not None else list(portals)
