"""Names of object types: plural in paths and services, singular in events; any name, or the id, finds its type.

Source: HubSpot's docs, "Using Object APIs"; the ids are those of `spokes.core.events`.
"""

import re
from typing import Final

from spokes.core.events import OBJECT_TYPES

CUSTOM_TYPE_NAME: Final = re.compile(r"p\d{1,20}_[A-Za-z0-9_-]{1,80}")
CUSTOM_TYPE: Final = re.compile(rf"\d{{1,4}}-\d{{1,20}}|{CUSTOM_TYPE_NAME.pattern}")  # an id, or a custom object's name

_IRREGULAR_PLURALS: Final = {
    "company": "companies",
    "goal": "goal_targets",
    "payment": "commerce_payments",
    "postal_mail": "postal_mail",
    "subscription": "commerce_subscriptions",
    "tax": "taxes",
}
_PLURALS: Final = {name: _IRREGULAR_PLURALS.get(name, f"{name}s") for name in OBJECT_TYPES.values()}
PLURALS: Final = tuple(_PLURALS.values())
_SINGULARS: Final = {**OBJECT_TYPES, **{plural: name for name, plural in _PLURALS.items()}}
_PLURALS_OF_ANY: Final = {  # by plural, singular and id
    **{name: _PLURALS[type_name] for name, type_name in _SINGULARS.items()}, **_PLURALS
}  # fmt: skip


def singular(name: str) -> str:
    """Return the name that events use: `contact` for `contacts`, `contact` and `0-1`; `2-123` is unchanged."""
    return _SINGULARS.get(name, name)


def plural(name: str) -> str:
    """Return the name that paths and services use: `contacts` for any of its names; `2-123` is unchanged."""
    return _PLURALS_OF_ANY.get(name, name)
