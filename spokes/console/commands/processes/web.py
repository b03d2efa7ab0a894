"""`web`: run the web process, as `python -m ingest` does."""

from spokes.core.process.child_command import become


def web() -> None:
    """Run the web process: it receives HubSpot's deliveries and queues them. Settings come from the environment.

    Example: PORT=8080 spokes web
    """
    become("ingest")
