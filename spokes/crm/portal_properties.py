"""Which properties a portal has of a type. Rule: whatever HubSpot does not tell is not guessed.

Source: HubSpot's docs, "Properties API".
"""

from spokes.core.errors import PermanentCRMError
from spokes.crm.access import Access
from spokes.crm.transport.paced_client import Request
from spokes.crm.transport.response_json import elements, text_id


async def all_properties(access: Access, object_type: str) -> tuple[str, ...] | None:
    """Return the names of all properties of a type; None where HubSpot does not tell them.

    Raises:
        TransientCRMError: it may tell them later.
    """
    try:
        answer = await access.send(Request("GET", access.exchange.paths.properties(object_type)))
    except PermanentCRMError:
        return None
    names = (text_id(item.get("name")) for item in elements(answer.body, "results"))
    return tuple(name for name in names if name) or None
