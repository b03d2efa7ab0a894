"""The priority class of events and deliveries: interactive work comes first wherever work waits. Pure.

A person waits for an interactive change. No person waits for one change of an import, and its changes come by the
thousand. The class is decided once, at admission, and stored with the delivery; later deliveries of its events keep it.
"""

from typing import Final, Literal, TypeAlias

Priority: TypeAlias = Literal["interactive", "import"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "import")  # in the order in which they are served

# HubSpot's docs, "Webhooks API guide": the values of changeSource that come in thousands at a time.
BULK_SOURCES: Final = frozenset({"IMPORT", "BATCH_UPDATE", "MIGRATION"})


def priority_of(change_source: object) -> Priority:
    """Return the priority class of an event, by its changeSource; an event without a readable one is interactive."""
    return "import" if isinstance(change_source, str) and change_source in BULK_SOURCES else "interactive"
