"""The id of the record that is there already, from a refusal of HubSpot that says "already exists". Pure.

An id counts only where the refusal names it as the existing record's. Ids of the inputs that were sent never count,
because an entry of a batch response holds them too.
Source: HubSpot's docs, "Error handling"; "Existing ID: 7", `existingObjectId` and "7 already has that value" as seen in
public projects, `identityProfile.vid` as in the contacts API v1; the other fields and phrases, such as a link to the
record, are guesses.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from spokes.crm.transport.response_json import Json, elements

_NOUN: Final = r"(?:object|record|contact|company|deal|ticket|entity)"
_EXISTING_ID_FIELD: Final = re.compile(
    rf"(?:existing|conflict(?:ing)?|duplicate)_?{_NOUN}?_?(?:ids?|vid)", re.IGNORECASE
)
_EXISTING_RECORD_FIELD: Final = re.compile(rf"(?:existing|conflict(?:ing)?|duplicate)_?{_NOUN}?s?", re.IGNORECASE)
_ID_IN_URL: Final = re.compile(r"/(\d{1,19})/?(?:\?.*)?$", re.ASCII)
_PLAIN_ID_FIELDS: Final = ("vid", "id", "objectId")  # of the existing record, if no input has this id
_NUMBER: Final = r"(\d{1,19})(?![\w@]|[.,+-]\w)"
_LINK: Final = rf"(?:\s?\bis)?[\s:=#(\"'\[]{{1,4}}{_NUMBER}"
_ID_IN_MESSAGE: Final = re.compile(
    rf"\bexisting[\s_]?(?:{_NOUN}[\s_]?)?v?id{_LINK}"  # Existing ID: 7, existing contact id is 7
    rf"|\balready exists[\s.:;,(\[]{{1,3}}(?:(?:with|under|as|has|at|the|its)\s){{0,2}}(?:{_NOUN}\s)?v?id{_LINK}"
    rf"|(?<![\w@.,+-]){_NUMBER} already has (?:that|this|the) value"
    rf"|\b(?:{_NOUN}|id)\s{_NUMBER} already exists",
    re.IGNORECASE,
)
_ID: Final = re.compile(r"\d{1,19}", re.ASCII)
_IDS: Final = range(1, 2**63)
_MAX_MESSAGE_CHARS: Final = 10_000


def existing_id_of(body: Json, own_ids: Collection[str] = ()) -> str | None:
    """Return the id of the existing record; None if the refusal does not name it.

    Args:
        body: a response, or an entry of a batch response.
        own_ids: ids of the inputs that were sent.
    """
    return next((object_id for object_id in _named_ids(body) if object_id not in own_ids), None)


def names_existing_record(message: str) -> bool:
    """Return whether a message names the id of an existing record."""
    return _id_in_message(message) is not None


def _named_ids(body: Json) -> Iterator[str]:
    """Yield the ids that a refusal names as the existing record's, the clearest first."""
    parts = (body, *elements(body, "errors"))
    for mapping in _mappings(parts, ("errorTokens", "context", None)):
        for name, value in mapping.items():
            if _EXISTING_ID_FIELD.fullmatch(name):
                yield from _ids(value)
    for part in parts:
        if object_id := _id_in_message(part.get("message")):
            yield object_id
    for mapping in _mappings(parts, ("errorTokens", "context", "links", None)):
        for name, value in mapping.items():
            if _EXISTING_RECORD_FIELD.fullmatch(name):
                yield from _ids_of_record(value)
    for mapping in _mappings(parts, ("identityProfile", "context")):
        for name in _PLAIN_ID_FIELDS:
            yield from _ids(mapping.get(name))


def _mappings(parts: Collection[Json], names: Collection[str | None]) -> Iterator[Json]:
    """Yield the objects with these names in each part; None stands for the part itself."""
    for part in parts:
        for name in names:
            value = part if name is None else part.get(name)
            if isinstance(value, Mapping):
                yield value


def _ids_of_record(value: object) -> Iterator[str]:
    """Yield the ids of records, given as objects with an id, as ids, or as URLs that end with an id."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Mapping):
            for name in _PLAIN_ID_FIELDS:
                yield from _ids(item.get(name))
        elif isinstance(item, str) and (match := _ID_IN_URL.search(item[:_MAX_MESSAGE_CHARS])):
            yield from _ids(match[1])
        else:
            yield from _ids(item)


def _ids(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        text = str(item) if type(item) is int else item
        if isinstance(text, str) and _ID.fullmatch(text) and int(text) in _IDS:
            yield str(int(text))


def _id_in_message(message: object) -> str | None:
    """Return the last id that a message names as the existing record's: values that it quotes stand before it."""
    object_id = None
    for match in _ID_IN_MESSAGE.finditer(message[:_MAX_MESSAGE_CHARS] if isinstance(message, str) else ""):
        object_id = next((found for found in map(_first, map(_ids, match.groups())) if found), object_id)
    return object_id


def _first(ids: Iterator[str]) -> str | None:
    return next(ids, None)
