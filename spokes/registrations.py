"""The event types that handlers register for: HubSpot's closed list, those of portals, and what is wrong with others.

A registration outside the list never matches an event, so it is refused at start.
Source: HubSpot's "Webhooks API guide" and "Create generic webhook subscriptions", and the subscription types of its
OpenAPI specification.
"""

import re
from collections.abc import Mapping
from typing import Final

from spokes.core.events import OBJECT_TYPES
from spokes.core.spelling import closest, did_you_mean
from spokes.crm.object_types import CUSTOM_TYPE, CUSTOM_TYPE_NAME, plural, singular

PORTAL: Final = "portal"
_ANY_OBJECT: Final = "object"
_RECORD_KINDS: Final = ("creation", "deletion", "propertyChange", "merge", "restore", "associationChange")
_OTHER_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "contact": (*_RECORD_KINDS, "privacyDeletion"),
    "conversation": ("creation", "deletion", "privacyDeletion", "propertyChange", "newMessage"),
    "event": ("completed",),
    PORTAL: ("installed", "uninstalled"),  # events of our own
    _ANY_OBJECT: (*_RECORD_KINDS, "privacyDeletion"),  # matches contacts and conversations too
}
_FAMILIES: Final = frozenset({*OBJECT_TYPES.values(), *_OTHER_KINDS})
_ALL_KINDS: Final = tuple(dict.fromkeys((*_RECORD_KINDS, *(kind for kinds in _OTHER_KINDS.values() for kind in kinds))))
_OTHER_WORDS: Final[Mapping[str, str]] = {  # for kinds, as other systems and HubSpot's own workflows call them
    "add": "creation", "added": "creation", "create": "creation", "created": "creation", "new": "creation",
    "change": "propertyChange", "changed": "propertyChange", "edit": "propertyChange", "update": "propertyChange",
    "updated": "propertyChange", "property": "propertyChange", "delete": "deletion", "deleted": "deletion",
    "remove": "deletion", "removed": "deletion", "archive": "deletion", "archived": "deletion", "merged": "merge",
    "merging": "merge", "restored": "restore", "restoration": "restore", "undelete": "restore",
    "association": "associationChange", "associated": "associationChange", "gdprdelete": "privacyDeletion",
    "gdprdeletion": "privacyDeletion", "erasure": "privacyDeletion", "erased": "privacyDeletion",
    "message": "newMessage",
}  # fmt: skip
_CONVERSATION_PROPERTIES: Final = ("assignedTo", "status", "isArchived")
_PROPERTY: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_UNSENT_PROPERTIES: Final = frozenset(
    {"hs_lastmodifieddate", "num_unique_conversion_events", "hs_email_html", "hs_email_subject"}
    | {"hs_communication_body"}
)


def registration_key(event_type: object, property_name: object = None) -> str:
    """Return the key of a registration: `contact.creation`, or `contact.propertyChange:email` for one property.

    The id of a standard type means the type: `0-1.deletion` is `contact.deletion`.

    Raises:
        ValueError: no event matches it; the text says why and what to write instead.
    """
    if not isinstance(event_type, str):
        raise ValueError('`@router.register` needs an event type: write @router.register("contact.creation").')  # noqa: TRY004 - one class for every fault
    family, kind = _split(event_type)
    if CUSTOM_TYPE_NAME.fullmatch(family):
        meant = f"2-1234567.{_right_kind(kind, family) or 'creation'}"
        raise ValueError(
            f"{event_type!r} is no event type: HubSpot's events name custom objects by their id. Write it: {meant!r}."
        )
    right_family = _right_family(family)
    right_kind = _right_kind(kind, right_family or _ANY_OBJECT)
    is_valid = right_kind and event_type == f"{family}.{right_kind}" and family in {right_family, *OBJECT_TYPES}
    if right_family is None or not is_valid:
        raise ValueError(_explain(event_type, family, kind, right_family, right_kind))
    if property_name is None:
        return f"{right_family}.{kind}"
    if fault := _property_fault(right_family, kind, property_name):
        raise ValueError(fault)
    return f"{right_family}.{kind}:{property_name}"


def _right_family(family: str) -> str | None:
    """Return the object type that was meant, None if it cannot be guessed."""
    if CUSTOM_TYPE.fullmatch(family):
        return OBJECT_TYPES.get(family, family)
    if (name := singular(family)) in _FAMILIES:
        return name
    spellings = {spelling: name for name in _FAMILIES for spelling in (name, f"{name}s", plural(name))}
    return spellings.get(closest(family, spellings))


def _split(event_type: str) -> tuple[str, str]:
    """Return object type and kind, even if another separator than a full stop stands between them."""
    if "." in event_type:
        family, _, kind = event_type.partition(".")
        return family, kind
    for separator in (":", "/", " ", "-", "_"):
        family, found, kind = event_type.rpartition(separator)
        if found and singular(family) in _FAMILIES:
            return family, kind
    return event_type, ""


def _right_kind(kind: str, family: str) -> str:
    """Return the kind that was meant, the empty text if it cannot be guessed."""
    kinds = _kinds_of(family)
    if kind in kinds:
        return kind
    word = _fold(kind.partition(":")[0].strip())
    guess = _OTHER_WORDS.get(word) or closest(word, kinds)
    return guess if guess in kinds else ""


def _kinds_of(family: str) -> tuple[str, ...]:
    return _OTHER_KINDS.get(family, _RECORD_KINDS)


def _explain(event_type: str, family: str, kind: str, right_family: str | None, right_kind: str) -> str:
    if right_family is None:
        valid = "contact, company, deal, ticket, line_item, ..., object for every type, 2-1234567 for a custom object"
        return f"{event_type!r} is no event type: HubSpot has no object type {family!r}. Valid object types: {valid}."
    kinds = ", ".join(_kinds_of(right_family))
    suggestion = f"{right_family}.{right_kind}" if right_kind else ""
    if kind in _ALL_KINDS and not right_kind:
        fault = f"{event_type!r} is no event type: HubSpot sends no {kind} of {right_family}."
    else:
        fault = f"{event_type!r} is no event type of HubSpot."
    if _fold(family) not in {_fold(right_family), _fold(plural(right_family))} and family not in OBJECT_TYPES:
        kinds += ". A custom object is named by its id: 2-1234567.creation"
    name = kind.partition(":")[2]
    if name and right_kind == "propertyChange":
        return f'{fault} Write @router.register("{suggestion}", property="{name}").'
    return f"{fault}{did_you_mean(suggestion)} Kinds of event of {right_family}: {kinds}."


def _fold(name: str) -> str:
    return name.casefold().replace("_", "")


def _property_fault(family: str, kind: str, name: object) -> str:
    """Return why no event has this property, the empty text if one may."""
    subject = f'"{family}.{kind}", property={name!r}'
    if kind != "propertyChange":
        return f'{subject}: only property changes have a property. Write "{family}.propertyChange", or leave it out.'
    if not isinstance(name, str) or not _PROPERTY.fullmatch(name):
        return f"{subject}: write the internal name of one property, such as property='email', not its label."
    if name in _UNSENT_PROPERTIES:
        return f"{subject}: HubSpot sends no event for this property."
    if family == "conversation" and name not in _CONVERSATION_PROPERTIES:
        suggestion = did_you_mean(closest(name, _CONVERSATION_PROPERTIES))
        return f"{subject}: conversations have {', '.join(_CONVERSATION_PROPERTIES)} only.{suggestion}"
    return ""
