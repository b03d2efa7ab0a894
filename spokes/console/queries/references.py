"""Which CRM object is meant: an id, or a link copied from HubSpot. Rule: pure; what is neither is said so."""

import re
from dataclasses import dataclass
from typing import Final

from spokes.core.errors import UnclearReference
from spokes.core.events import OBJECT_TYPES

# https://app.hubspot.com/contacts/50112233/record/0-1/318845120771, also app-eu1 and with a tail;
# and the older https://app.hubspot.com/contacts/50112233/contact/318845120771
_LINK: Final = re.compile(
    r"^https?://[\w.-]*hubspot\.com/[a-z-]+/(?P<portal>\d{1,18})/(?:record/(?P<type>\d+-\d+)|(?P<name>[a-z]+))/(?P<id>\d{1,20})(?:[/?#].*)?$"
)
_ID: Final = re.compile(r"^(?:(?P<type>[\w-]{1,100})[\s:/]+)?(?P<id>\d{1,20})$")


@dataclass(frozen=True, slots=True)
class Reference:
    """A CRM object as somebody names it; a type or portal that was not said is None."""

    object_id: str
    object_type: str | None = None
    portal_id: int | None = None

    @classmethod
    def from_text(cls, text: str) -> "Reference":
        """Read an id, `contact 51`, or a link.

        Raises:
            UnclearReference: it is none of these.
        """
        if link := _LINK.match(text.strip()):
            object_type = OBJECT_TYPES.get(link["type"], link["type"]) if link["type"] else link["name"]
            return cls(link["id"], object_type, int(link["portal"]))
        if plain := _ID.match(text.strip()):
            told = plain["type"]
            return cls(plain["id"], None if told is None else OBJECT_TYPES.get(told, told))
        raise UnclearReference
