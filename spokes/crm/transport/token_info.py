"""Whom our token belongs to. Rule: HubSpot being down says nothing about the token; only 401 does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spokes.core.errors import PermanentCRMError, TransientCRMError
from spokes.crm.transport.paths import Paths

if TYPE_CHECKING:
    from spokes.crm.transport.client import HubSpotClient  # its import loads hubspot-api-client


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Whom the token belongs to; `scopes` is empty where HubSpot does not tell them."""

    hub_id: int
    scopes: frozenset[str]


async def token_info(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    """Ask HubSpot; None when it cannot be asked now.

    Raises:
        NotAuthorized: HubSpot does not know the token.
    """
    try:
        body = (await client.token_info(paths.token_info())).body
        scopes = body.get("scopes")
        return TokenInfo(_hub(body.get("hubId")), frozenset(map(str, scopes if isinstance(scopes, list) else ())))
    except TransientCRMError:
        return None
    except PermanentCRMError:  # a token of another kind: only its account can be asked for
        return await _account(client, paths)


async def _account(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    try:
        body = (await client.call("GET", paths.account_details())).body
    except (TransientCRMError, PermanentCRMError):
        return None
    return TokenInfo(_hub(body.get("portalId")), frozenset())


def _hub(value: object) -> int:
    return value if isinstance(value, int) else 0
