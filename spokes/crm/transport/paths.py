"""Paths of HubSpot's endpoints; the only place with the API version.

HubSpot supports each date version for 18 months, and ends the numbered versions in 2027.
Source: HubSpot's changelog, "Introducing date-based API versioning", and its public API specifications.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from spokes.core.errors import InvalidRequest
from spokes.crm.object_types import plural

NUMBERED_VERSION: Final = "v3"
# HubSpot answers URLs of some 8,000 characters with 414.
_MAX_PATH_CHARS: Final = 2_000
_MAX_LIST_CHARS: Final = 4_000  # of a list in the query


class Paths:
    """Paths for `version`: `v3` (associations are v4 then), or a date version such as `2026-09`."""

    def __init__(self, version: str) -> None:
        self.version = version
        is_numbered = version == NUMBERED_VERSION
        self._objects = "/crm/v3/objects" if is_numbered else f"/crm/objects/{version}"
        self._object_associations = "/crm/v4/objects" if is_numbered else self._objects
        self._associations = "/crm/v4/associations" if is_numbered else f"/crm/associations/{version}"
        self._properties = "/crm/v3/properties" if is_numbered else f"/crm/properties/{version}"
        self._account = f"/account-info/{version}"

    def objects(self, object_type: str, *rest: str) -> str:
        """Return the path of a type's objects, of one of them, or of an action: `objects("contact", "batch", "read")`.

        Raises:
            InvalidRequest: a part is empty or only dots, which would lead to another endpoint, or the path is too long.
        """
        return _join_quoted(self._objects, plural(object_type), *rest)

    def associations(self, from_type: str, to_type: str, *rest: str) -> str:
        """Return the path of associations between two types, for batch calls and labels."""
        return _join_quoted(self._associations, plural(from_type), plural(to_type), *rest)

    def object_associations(self, object_type: str, object_id: str, *rest: str) -> str:
        """Return the path of the associations of one object."""
        return _join_quoted(self._object_associations, plural(object_type), object_id, "associations", *rest)

    def properties(self, object_type: str) -> str:
        """Return the path of the properties that the portal has of a type."""
        return _join_quoted(self._properties, plural(object_type))

    def account_details(self) -> str:
        """Return the path of the token's portal; any token may read it."""
        return f"{self._account}/details"

    def daily_usage(self) -> str:
        """Return the path of today's calls of all private apps of the account, with their limit."""
        return f"{self._account}/api-usage/daily/private-apps"

    def token_info(self) -> str:
        """Return the path of a private-app token's portal and scopes; no date version has replaced this v2 path."""
        return "/oauth/v2/private-apps/get/access-token-info"


def fits_in_url(names: Iterable[str]) -> bool:
    """Return whether a query may list these names; beyond, they belong in the body of a batch read."""
    return sum(len(quote(name, safe="")) + len(quote(",", safe="")) for name in names) <= _MAX_LIST_CHARS


def _join_quoted(base: str, *parts: str) -> str:
    # urllib3 resolves dot segments, so an id of dots would reach another endpoint with our token.
    if any(not part.strip(".") for part in parts):
        raise InvalidRequest(category="PATH")
    path = "/".join((base, *(quote(part, safe="") for part in parts)))
    if len(path) > _MAX_PATH_CHARS:
        raise InvalidRequest(category="URL_TOO_LONG")
    return path
