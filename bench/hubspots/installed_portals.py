"""Portals that installed the app in a simulator, with their tokens in the deployment's store."""

from collections.abc import Iterable, Mapping

from pydantic import SecretStr

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.clock import now_ms
from spokes.core.vault import Vault
from spokes.portals.store import PortalStore
from spokes.portals.tokens import Tokens
from spokes.simulator.app import Simulator
from spokes.simulator.config import OAuthConfig

SECRETS_KEY = "3f6d0c2e8b1a4e579c347a5e2d10b9f8"
SCOPES = ("oauth", "crm.objects.contacts.read", "crm.objects.contacts.write")


def oauth_environ(data: str, sim: Simulator) -> Mapping[str, str]:
    """Return the settings of a deployment in the folder `data`, a full path, whose app is installed in `sim`."""
    return {
        "HUBSPOT_ACCESS_TOKEN": "", "HUBSPOT_CLIENT_ID": OAuthConfig().client_id,
        "HUBSPOT_CLIENT_SECRET": sim.config.client_secret, "HUBSPOT_API_URL": sim.url, "SECRETS_KEY": SECRETS_KEY,
        "DATABASE_URL": f"sqlite:///{data}/portals.sqlite",
    }  # fmt: skip


async def install(data: str, sim: Simulator, portal_ids: Iterable[int]) -> None:
    """Install the app in portals of `sim`, without a browser."""
    engine = open_engine(f"sqlite+aiosqlite:///{data}/portals.sqlite")
    await schema.upgrade(engine)
    store = PortalStore(engine, Vault([SECRETS_KEY]))
    for portal_id in portal_ids:
        sim.add_portal(portal_id)
        issued = sim.installs.install(portal_id, frozenset(SCOPES))
        tokens = Tokens(
            SecretStr(issued.access_token), SecretStr(issued.refresh_token), now_ms() + issued.expires_in_s * 1000
        )
        await store.save_install(portal_id, tokens, SCOPES)
    await engine.dispose()
