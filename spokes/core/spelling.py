"""Suggest the right spelling of a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: str, valid: Iterable[str]) -> str:
    """Return the valid name that a misspelt one resembles most, whatever its case; the empty text if none does."""
    by_folded = {_folded(candidate): candidate for candidate in valid}
    matches = get_close_matches(_folded(name), by_folded, n=1)
    return by_folded[matches[0]] if matches else ""


def did_you_mean(suggestion: str) -> str:
    """Return a question that starts with a space; the empty text without a suggestion."""
    return f" Did you mean {suggestion!r}?" if suggestion else ""


def _folded(name: str) -> str:
    """Return a name without case and separators: `line-item`, `LineItem` and `line_item` are alike."""
    return "".join(character for character in name.casefold() if character.isalnum())
