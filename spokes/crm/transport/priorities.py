"""Whose calls go first. Rule: pure; work that somebody waits for comes before work that came in bulk."""

from typing import Final, Literal, TypeAlias

Priority: TypeAlias = Literal["interactive", "background"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "background")  # in the order in which they are served

# HubSpot's docs, "Webhooks API guide": the values of changeSource that come in thousands at a time.
_BULK_SOURCES: Final = frozenset({"IMPORT", "BATCH_UPDATE", "MIGRATION"})


def priority_of(change_source: str | None) -> Priority:
    """Return the priority of the work on an event by its changeSource."""
    return "background" if change_source in _BULK_SOURCES else "interactive"
