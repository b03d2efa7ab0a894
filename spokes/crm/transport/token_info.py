"""Portal and scopes of our access token. Only a 401 says that the token is invalid; an outage says nothing about it."""

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from spokes.core import clock
from spokes.core.errors import PermanentCRMError, TransientCRMError
from spokes.core.json_reading.json_fields import read_id
from spokes.crm.transport.paths import Paths

if TYPE_CHECKING:
    from spokes.crm.transport.client import ApiResponse, HubSpotClient  # its import loads hubspot-api-client


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """The portal and scopes of a token; `scopes` is empty if HubSpot does not report them.

    `clock_skew_s` is how far HubSpot's clock is ahead of ours; None if the response has no date.
    """

    hub_id: int  # 0: HubSpot did not name it
    scopes: frozenset[str]
    clock_skew_s: float | None = None


async def token_info(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    """Return portal and scopes of the client's token; None if HubSpot cannot answer now.

    Raises:
        NotAuthorized: HubSpot does not know the token.
    """
    try:
        before_s = clock.now_s()
        response = await client.token_info(paths.token_info())
        scopes = response.body.get("scopes")
        names = frozenset(map(str, scopes if isinstance(scopes, list) else ()))
        return TokenInfo(read_id(response.body.get("hubId")) or 0, names, _clock_skew_s(response, before_s))
    except TransientCRMError:
        return None
    except PermanentCRMError:  # not a private app's token: only its portal can be read
        return await _account_info(client, paths)


async def _account_info(client: "HubSpotClient", paths: Paths) -> TokenInfo | None:
    try:
        before_s = clock.now_s()
        response = await client.call("GET", paths.account_details())
    except (TransientCRMError, PermanentCRMError):
        return None
    return TokenInfo(read_id(response.body.get("portalId")) or 0, frozenset(), _clock_skew_s(response, before_s))


def _clock_skew_s(response: "ApiResponse", before_s: float) -> float | None:
    """Return how far the server's clock is ahead of ours, by the response's date, which is cut to whole seconds."""
    try:
        date = parsedate_to_datetime(response.headers.get("date", ""))
        server_s = date.replace(tzinfo=date.tzinfo or UTC).timestamp() + 0.5
    except (ValueError, OverflowError):
        return None
    return server_s - (before_s + clock.now_s()) / 2
