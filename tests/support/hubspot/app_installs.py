"""A portal of the simulator that has installed the app, with its tokens in the store."""

from collections.abc import Collection

from pydantic import SecretStr

from spokes.core import clock
from spokes.portals.store import PortalStore
from spokes.portals.tokens import Tokens
from spokes.simulator.app import Simulator


async def install_app(
    portals: PortalStore, hubspot: Simulator, portal_id: int, scopes: Collection[str], *, expires_in_s: int = 1800
) -> None:
    """Let a portal install the app with these scopes; its access token ends in `expires_in_s` seconds for us."""
    hubspot.add_portal(portal_id)
    issued = hubspot.installs.install(portal_id, frozenset(scopes))
    ends_at = clock.now_ms() + expires_in_s * 1000
    tokens = Tokens(SecretStr(issued.access_token), SecretStr(issued.refresh_token), ends_at)
    await portals.save_install(portal_id, tokens, sorted(scopes))
