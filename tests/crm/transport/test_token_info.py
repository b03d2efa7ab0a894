"""spokes.crm.transport.token_info: the portal of a token, whatever the response names as its id."""

import pytest

from spokes.crm.transport.client import HubSpotClient
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.token_info import token_info
from tests.support.hubspot.scripted_hubspot import ScriptedHubSpot, json_response


@pytest.mark.parametrize(
    ("named", "portal_id"),
    [(50112233, 50112233), ("50112233", 50112233), ("9" * 5_000, 0), (2**63, 0), (-1, 0), (0, 0), (None, 0), ([], 0)],
)
async def test_only_an_id_of_hubspot_is_the_portal_of_a_token(named: object, portal_id: int) -> None:
    async with ScriptedHubSpot(lambda _: json_response({"hubId": named, "scopes": []})) as hubspot:
        client = HubSpotClient(api_url=hubspot.url, token="pat-eu1-of-this-test", timeout_s=2.0, concurrency=1)
        info = await token_info(client, Paths("2026-09"))
        await client.close()
    assert info is not None
    assert info.hub_id == portal_id
