"""Request elements with any JSON in any of their fields, as text: JSON texts can say what no Python object does."""

import random
from collections.abc import Iterator
from typing import Any, Final

import orjson

from tests.support.events import event

MERGE: Final = {"primaryObjectId": 5, "mergedObjectIds": [6], "newObjectId": 7, "numberOfPropertiesMoved": 1}
CHANGE: Final = {"propertyName": "email", "propertyValue": "a@b.example", "isSensitive": False}
LABEL: Final = {"associationTypeId": 3, "associationCategory": "USER_DEFINED"}
ASSOCIATION: Final = {
    "fromObjectId": 1, "toObjectId": 2, "associationRemoved": False, "isPrimaryAssociation": True,
    "fromObjectTypeId": "0-3", "toObjectTypeId": "0-1",
}  # fmt: skip
BASES: Final[dict[str, dict[str, Any]]] = {
    "contact.creation": {},
    "company.deletion": {},
    "deal.restore": {},
    "ticket.privacyDeletion": {},
    "object.creation": {"objectTypeId": "0-1"},
    "object.deletion": {"objectTypeId": "2-77"},
    "contact.propertyChange": CHANGE,
    "object.propertyChange": {**CHANGE, "objectTypeId": "0-3"},
    "line_item.propertyChange": CHANGE,
    "contact.merge": MERGE,
    "object.merge": {**MERGE, "objectTypeId": "0-2"},
    "deal.associationChange": {**ASSOCIATION, "associationType": "DEAL_TO_CONTACT"},
    "object.associationChange": {**ASSOCIATION, **LABEL},
    "conversation.newMessage": {"messageId": "a" * 32, "messageType": "MESSAGE"},
    "starship.warp": {"dilithium": [1]},
}
ODD_VALUES: Final[list[Any]] = [
    None, True, False, 0, -1, 7, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 1.5, 8.0, 1e300, "", " ", "x", "12", "012",
    "-3", "1" * 30, "true", "REDACTED", "\u0000", "\ufffd🚀", "a:*", "0-1", [], [1], ["1", 2], [None], ["x"], [[]],
    {}, {"a": 1}, {"value": "12"}, "1,2", "x" * 3000, 318845120774,
]  # fmt: skip
# What only JSON text can say: numbers beyond 64 bits, without a finite value, a lone surrogate, deep nesting, no JSON.
ODD_TEXTS: Final = (
    "-0", "1e400", "1E-400", "9" * 40, "-" + "9" * 400, "1.0000000000000000000001", "NaN", "-Infinity", r'"\ud83d"',
    r'"\u0000\uDC00x"', "[" * 300 + "]" * 300, '{"a":' * 260 + "1" + "}" * 260, "tru", "'x'", "1_000", "0x10", "",
)  # fmt: skip
OTHER_FIELDS: Final = (
    "eventType", "objectTypeId", "newObjectId", "mergedObjectIds", "primaryObjectId", "propertyName", "propertyValue",
    "fromObjectId", "toObjectId", "associationType", "isSensitive", "messageId", "unknown", "",
)  # fmt: skip


def single_faults() -> Iterator[dict[str, Any]]:
    """Yield each type of event with each odd value in each of its fields."""
    number = 0
    for type_, fields in BASES.items():
        for name in dict.fromkeys((*event(), *fields, *OTHER_FIELDS)):
            for value in ODD_VALUES:
                number += 1
                yield {**event(number, subscriptionType=type_, **fields), name: value}


def odd_element(rng: random.Random, number: int) -> bytes:
    """Return an element of any type with several odd fields, some of them twice."""
    type_ = rng.choice(list(BASES))
    raw = event(number, subscriptionType=type_, **BASES[type_])
    pairs = [(name, orjson.dumps(value).decode()) for name, value in raw.items()]
    for _ in range(rng.randint(1, 4)):
        name = rng.choice((*raw, *OTHER_FIELDS))
        text = rng.choice(ODD_TEXTS) if rng.random() < 0.3 else orjson.dumps(rng.choice(ODD_VALUES)).decode()
        if rng.random() < 0.3:  # of duplicate names the last counts
            pairs.insert(rng.randint(0, len(pairs)), (name, text))
        else:
            pairs = [(other, text if other == name else value) for other, value in pairs]
            pairs += [] if name in raw else [(name, text)]
    return ("{" + ",".join(f'"{name}":{text}' for name, text in pairs) + "}").encode(errors="surrogatepass")
