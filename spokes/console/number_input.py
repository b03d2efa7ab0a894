"""Numbers as browsers and programs send them."""

from typing import Final

_MAX_DIGITS: Final = 18  # SQLite and PostgreSQL store numbers of this length


def parse_number(text: str) -> int | None:
    """Return the whole number that a text of at most 18 digits writes; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
