"""How strong a key or token must be, and which secrets are distinctive enough to be searched for in other texts."""

from typing import Final

TOO_WEAK: Final = (
    "is short enough to guess: it needs 16 characters of 8 kinds; write the output of `openssl rand -hex 32`"
)
_LONG: Final = 32  # characters: any text that long counts as random
_SHORTEST: Final = 16  # characters; the number of different ones:
_DIFFERENT: Final = 8
_SHORTEST_MIXED: Final = 12  # characters of a text of letters and digits that no word, name or key of ours equals
_SHORTEST_WORDS: Final = 20


def is_strong(text: str) -> bool:
    """Return whether `text` is long, or of some length and many different characters."""
    return len(text) >= _LONG or (len(text) >= _SHORTEST and len(set(text)) >= _DIFFERENT)


def check_strength(text: str) -> str:
    """Return `text` if it is strong.

    Raises:
        ValueError: with a sentence.
    """
    if not is_strong(text):
        raise ValueError(TOO_WEAK)
    return text


def is_distinctive(text: str) -> bool:
    """Return whether `text` appears only where the secret was copied to.

    An ordinary word, such as the password `worker`, appears in names of our own too: replacing it would damage logs,
    and finding it in Redis would say nothing.
    """
    is_mixed = any(character.isdigit() for character in text) and any(character.isalpha() for character in text)
    return len(text) >= (_SHORTEST_MIXED if is_mixed else _SHORTEST_WORDS)
