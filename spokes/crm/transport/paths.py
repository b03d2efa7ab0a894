"""Where HubSpot's endpoints are. Rule: the version segment stands here and nowhere else.

HubSpot supports each date version for 18 months and leaves the numbered ones in 2027.
Source: HubSpot's changelog, "Introducing date-based API versioning", and its public API specifications.
"""

from typing import Final
from urllib.parse import quote

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import plural

NUMBERED_VERSION: Final = "v3"


class Paths:
    """Paths for `version`: `v3` (associations are v4 then), or a date version such as `2026-09`."""

    def __init__(self, version: str) -> None:
        self.version = version
        numbered = version == NUMBERED_VERSION
        self._objects = "/crm/v3/objects" if numbered else f"/crm/objects/{version}"
        self._object_associations = "/crm/v4/objects" if numbered else self._objects
        self._associations = "/crm/v4/associations" if numbered else f"/crm/associations/{version}"
        self._properties = "/crm/v3/properties" if numbered else f"/crm/properties/{version}"
        self._account = f"/account-info/{version}"

    def objects(self, object_type: str, *rest: str) -> str:
        """Objects of a type, one of them, or an action: `objects("contact", "batch", "read")`.

        Raises:
            InvalidRequest: a part is empty or made of dots, and would lead to another endpoint.
        """
        return _join_quoted(self._objects, plural(object_type), *rest)

    def associations(self, from_type: str, to_type: str, *rest: str) -> str:
        """Associations between two types, for batch calls and labels."""
        return _join_quoted(self._associations, plural(from_type), plural(to_type), *rest)

    def object_associations(self, object_type: str, object_id: str, *rest: str) -> str:
        """Associations of one object."""
        return _join_quoted(self._object_associations, plural(object_type), object_id, "associations", *rest)

    def properties(self, object_type: str) -> str:
        """The properties that the portal has of a type."""
        return _join_quoted(self._properties, plural(object_type))

    def account_details(self) -> str:
        """Which portal the token belongs to; any token may ask."""
        return f"{self._account}/details"

    def daily_usage(self) -> str:
        """Calls of all private apps of the account today, against their limit."""
        return f"{self._account}/api-usage/daily/private-apps"

    def token_info(self) -> str:
        """Portal and scopes of a private-app token; a v2 path that no date version has replaced."""
        return "/oauth/v2/private-apps/get/access-token-info"


def _join_quoted(base: str, *parts: str) -> str:
    # urllib3 resolves dot segments, so an id made of dots would reach another endpoint with our token.
    if any(not part.strip(".") for part in parts):
        raise InvalidRequest(category="PATH")
    return "/".join((base, *(quote(part, safe="") for part in parts)))
