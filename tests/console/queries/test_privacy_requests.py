"""Privacy requests with their due dates."""

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.queries.privacy_requests import list_privacy_requests
from spokes.privacy.requests import ErasureRequest, Law, add_request
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL


async def test_privacy_request_has_the_days_until_it_is_due(store: AsyncEngine) -> None:
    day = 86_400_000
    for portal in (PORTAL, OTHER_PORTAL):
        await add_request(store, ErasureRequest(portal, "h", ("51",), Law.CCPA, "ada", requested_at=0))
    [view] = await list_privacy_requests(store, frozenset({PORTAL}), now_ms=40 * day)
    [_, late] = await list_privacy_requests(store, None, now_ms=46 * day)
    assert (view.due_in_days, late.due_in_days) == (5, -1)
