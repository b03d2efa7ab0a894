"""Read one field of parsed JSON to its type, or to None ("absent") if it is of another type. Pure.

A field of another type is coerced only where nothing is lost: HubSpot advises to treat ids as text, so digit text and
numbers without a fraction are the same id.
"""

from typing import Final

_INTEGERS: Final = range(-(2**63), 2**64)  # what JSON parsers read exactly
_MIN_BIGINT: Final = -(2**63)  # what a column of the audit store holds; each event is compared with both limits
_MAX_BIGINT: Final = 2**63 - 1
_IDS: Final = range(1, 2**63)
_EXACT_FLOAT: Final = 2**53  # below it, a float is exactly the integer that was sent
_MAX_DIGITS: Final = 20
_FLAGS: Final = {"true": True, "false": False}


def read_integer(value: object) -> int | None:
    """Return an integer, also one sent as digit text or as a number like 7.0; None for everything else.

    `type() is`, because isinstance takes True for an int.
    """
    if type(value) is int:
        return value if value in _INTEGERS else None
    if type(value) is str:
        if not value.isascii() or len(value) > _MAX_DIGITS or not value.removeprefix("-").isdigit():
            return None
        number = int(value)
        return number if str(number) == value and number in _INTEGERS else None
    if type(value) is float and value.is_integer() and abs(value) < _EXACT_FLOAT:
        return int(value)
    return None


def read_bigint(value: object) -> int | None:
    """Return an integer that the audit store can hold, read as `read_integer` does; None for everything else."""
    number = value if type(value) is int else read_integer(value)
    return None if number is None or not _MIN_BIGINT <= number <= _MAX_BIGINT else number


def read_id(value: object) -> int | None:
    """Return an id of HubSpot's, read as `read_integer` does; None for everything else, and for a number that is none.

    No id is 0, negative or longer than 63 bits.
    """
    number = value if type(value) is int else read_integer(value)
    return None if number is None or number not in _IDS else number


def read_text(value: object) -> str | None:
    """Return a text; None for everything else."""
    return value if type(value) is str else None


def read_scalar_text(value: object) -> str | None:
    """Return a text, or the text of a number or a boolean as JSON spells it; None for everything else."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or type(value) is float:
        return repr(value)
    return read_text(value)


def read_flag(value: object) -> bool | None:
    """Return a boolean, also one sent as the text true or false in any case; None for everything else."""
    if type(value) is bool:
        return value
    return _FLAGS.get(value.lower()) if type(value) is str else None


def read_ids(value: object) -> list[int | None] | None:
    """Return a list of ids, sent as a list, as one id, or as text separated by commas or semicolons.

    Entries that are null stay null. None if any other entry is no id, or if there is no id at all.
    """
    if type(value) is str:
        value = [part.strip() for part in value.replace(";", ",").split(",")]
    entries = value if type(value) is list else [value]
    ids = [None if entry is None else read_id(entry) for entry in entries]
    is_readable = all(entry is None or number is not None for entry, number in zip(entries, ids, strict=True))
    return ids if is_readable and any(number is not None for number in ids) else None
