"""Ids and types as handlers write them; an id is text, or a whole number as HubSpot's own JSON has it."""

from spokes.core.errors import InvalidRequest


def read_id(value: object) -> str:
    """Return an id, or a value of a unique property, as text.

    Raises:
        InvalidRequest: it is empty, or neither text nor a whole number; nothing was sent.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequest(category="ID_TYPE")
    if not value:
        raise InvalidRequest(category="ID_EMPTY")
    return value


def check_types(*types: object) -> None:
    """Check names of object types.

    Raises:
        InvalidRequest: one is no text, or empty; nothing was sent.
    """
    if not all(isinstance(name, str) and name for name in types):
        raise InvalidRequest(category="OBJECT_TYPE")
