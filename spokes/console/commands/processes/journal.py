"""`journal`: run the reader of HubSpot's webhooks journal, as `python -m ingest.journal` does."""

from spokes.core.process.child_command import become


def journal() -> None:
    """Run the reader of HubSpot's journal: it queues the events that pushes have missed.

    Of several readers, one reads at a time. Settings come from the environment; docs/journal.md names them.

    Example: spokes journal
    """
    become("ingest.journal")
