"""Portal and scopes of our access token. Only a 401 says that the token is invalid; an outage says nothing about it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spokes.core.errors import PermanentCRMError, TransientCRMError
from spokes.crm.transport.paths import Paths

if TYPE_CHECKING:
    from spokes.crm.transport.client import HubSpotClient  # its import loads hubspot-api-client


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """The portal and scopes of a token; `scopes` is empty if HubSpot does not report them."""

    hub_id: int  # 0: HubSpot did not name it
    scopes: frozenset[str]


async def token_info(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    """Return portal and scopes of the client's token; None if HubSpot cannot answer now.

    Raises:
        NotAuthorized: HubSpot does not know the token.
    """
    try:
        body = (await client.token_info(paths.token_info())).body
        scopes = body.get("scopes")
        return TokenInfo(_hub_id(body.get("hubId")), frozenset(map(str, scopes if isinstance(scopes, list) else ())))
    except TransientCRMError:
        return None
    except PermanentCRMError:  # not a private app's token: only its portal can be read
        return await _account_info(client, paths)


async def _account_info(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    try:
        body = (await client.call("GET", paths.account_details())).body
    except (TransientCRMError, PermanentCRMError):
        return None
    return TokenInfo(_hub_id(body.get("portalId")), frozenset())


def _hub_id(value: object) -> int:
    """Return a portal id, also from digits as text; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    return value if type(value) is int and value > 0 else 0
