"""Times as people read them, for commands and pages: always UTC."""

from datetime import UTC, datetime


def format_epoch_ms(at_ms: float | None, pattern: str) -> str:
    """Return a time as `strftime` writes it with `pattern`; empty for None and 0.

    A time beyond the calendar, which an event may carry, is written as its number.
    """
    if not at_ms:
        return ""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(pattern)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms:.0f} ms"
