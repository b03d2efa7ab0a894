"""Mask what looks personal in the free text of a row, before the chain makes it unforgettable.

Free text is what people write (reasons) and what others name (event types, properties). Accounts keep their names: who
did what to which account is what their records are for.
"""

from typing import Final

import orjson

from spokes.audit.records import Action
from spokes.audit.rows import Row
from spokes.core.masking import Mask

_MASK: Final = Mask()
_NAMES: Final = ("reason", "subscription_type", "object_type", "handler")
_ACCOUNT_ACTIONS: Final = frozenset(
    {
        Action.LOGGED_IN, Action.LOGGED_OUT, Action.SESSIONS_ENDED, Action.USER_CHANGED, Action.USER_REMOVED,
        Action.LINK_MADE, Action.TOKEN_MADE, Action.TOKEN_REVOKED,
    }
)  # fmt: skip


def mask_row(row: Row) -> Row:
    """Return the row with its reason, its names and its detail masked."""
    detail = row["detail"] if row["action"] not in _ACCOUNT_ACTIONS else None
    text = "\n".join([str(value) for value in (*map(row.__getitem__, _NAMES), detail) if value])
    if _MASK.text(text) == text:  # nothing personal spans lines; most rows have nothing to mask
        return row
    for name in _NAMES:
        if value := row[name]:
            row[name] = _MASK.text(str(value))
    if detail and _MASK.text(str(detail)) != detail:
        row["detail"] = orjson.dumps(_masked(orjson.loads(str(detail))), option=orjson.OPT_SORT_KEYS).decode()
    return row


def _masked(value: object) -> object:
    if isinstance(value, str):
        return _MASK.text(value)
    if isinstance(value, dict):
        return {_MASK.text(name): _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value
