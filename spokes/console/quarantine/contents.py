"""Find quarantined contents, and what may be shown of one: names, types and sizes, never a value."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import NamedTuple

from spokes.console.queries.portal_scope import Portals, can_see
from spokes.queue.quarantine import Quarantine, QuarantinedContent


class ContentPlace(NamedTuple):
    """A place in the list of all contents: the portal, then the key within it."""

    portal_id: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentView:
    """A quarantined element, body or stored delivery.

    Attributes:
        portal_id: 0 if its portal is unreadable.
        key: names the content.
        cause: why it is quarantined.
        delivery_id: of the delivery or request that it came with, if any.
        stored_at: epoch ms.
        bytes: its size as received.
        fields: the JSON type of each of its fields.
    """

    portal_id: int
    key: str
    cause: str
    delivery_id: str
    stored_at: int
    bytes: int
    fields: dict[str, str]


def view_of(quarantine: Quarantine, content: QuarantinedContent) -> ContentView:
    """Return what may be shown of a content."""
    return ContentView(
        portal_id=content.portal_id, key=content.key, cause=content.reason, delivery_id=content.delivery_id,
        stored_at=content.at, bytes=content.size, fields=quarantine.field_types(content),
    )  # fmt: skip


async def find_contents(
    quarantine: Quarantine, portals: Portals, *, cause: str | None = None, keys: Collection[str] = (),
    after: ContentPlace | None = None,
) -> AsyncIterator[QuarantinedContent]:  # fmt: skip
    """Yield the matching contents, portal by portal, newest first; with `after`, those that follow this place.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    for portal_id in await quarantine.portals():
        if not can_see(portals, portal_id) or (after is not None and portal_id < after.portal_id):
            continue
        previous = after.key if after is not None and portal_id == after.portal_id else None
        async for content in quarantine.list(portal_id, keys, after=previous):
            if cause in {None, content.reason}:
                yield content


async def find_content(quarantine: Quarantine, portals: Portals, portal_id: int, key: str) -> QuarantinedContent | None:
    """Return one content; None if it is gone or the reader may not see its portal.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not can_see(portals, portal_id):
        return None
    return await anext(quarantine.list(portal_id, [key]), None)
