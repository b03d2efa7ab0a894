"""Random malformed and unusual JSON bodies. Pure: each function takes a random generator and returns bytes."""

import json
import random
from typing import Any, Final

FORGED_OBJECT: Final = 217_000_000_000  # unsigned requests are about objects from this id on
_DEEP: Final = (50, 500, 1_500, 20_000)

_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, -0.0, 1e308, "", " ", "0",
    "318845120001", "0-1", "contact", "2-1234567", "\x00", "\u2028", "🜁" * 20, "x" * 70_000, [], [[]], [1, "2", None],
    {}, {"id": 1}, {"a": {"b": [{}]}}, "REDACTED", "1e5", "%s%n", "../..", "<script>", "' OR 1=1", "\r\nX: y",
)  # fmt: skip
_TYPES: Final = (
    "contact.creation", "contact.propertyChange", "contact.merge", "contact.associationChange", "deal.deletion",
    "contact.privacyDeletion", "company.restore", "object.creation", "object.propertyChange", "object.merge",
    "object.associationChange", "conversation.newMessage", "conversation.creation", "quote.unheardOf", "contact", ".",
    "..", "", ".creation", "contact.", "contact.creation.twice", "CONTACT.CREATION", "cöntact.creation", "a" * 101,
    "x.y" * 40, "contact.creation ", "object.", "contact.propertyChange:email",
)  # fmt: skip
_FIELDS: Final = (
    "eventId", "subscriptionId", "portalId", "appId", "occurredAt", "subscriptionType", "eventType", "attemptNumber",
    "objectId", "objectTypeId", "propertyName", "propertyValue", "changeSource", "changeFlag", "isSensitive",
    "fromObjectId", "toObjectId", "fromObjectTypeId", "toObjectTypeId", "associationType", "associationRemoved",
    "associationCategory", "associationTypeId", "isPrimaryAssociation", "primaryObjectId", "mergedObjectIds",
    "newObjectId", "numberOfPropertiesMoved", "messageId", "messageType", "sourceId", "unheardOf",
)  # fmt: skip
_TEXTS: Final = (
    b"", b" ", b"\n", b"null", b"true", b"7", b'"text"', b"NaN", b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e999]",
    b"[1e-999]", b"[01]", b"[+1]", b"[.5]", b"[1,]", b"[,1]", b"{}", b"[{}]", b"[[]]", b"[null]", b"[]]", b"[] []",
    b"\xef\xbb\xbf[]", b"\xff\xfe[\x00]\x00", b"\xff", b"\xc3\x28", b'["\xed\xa0\x80"]', b'["\\ud800"]',
    b'["\\udfff\\ud800"]', b'["\\u0000"]', b'["\x00"]', b"['a']", b"[1]//", b"{'a':1}", b"\x00" * 1000, b"a=1&b=2",
    b'{"a":1,"a":2}', b"[" + b"9" * 20_000 + b"]", b"[" + b"0," * 50_000 + b"0]", b"--x\r\n\r\nbody\r\n--x--",
)  # fmt: skip


def element(rng: random.Random) -> dict[str, Any]:
    """Return an event with the fields of all kinds of events."""
    return {
        "eventId": rng.getrandbits(40), "subscriptionId": 4410001, "portalId": 50112233, "appId": 7788990,
        "occurredAt": 1795442400000 + rng.getrandbits(30), "subscriptionType": rng.choice(_TYPES), "attemptNumber": 0,
        "objectId": 1 + rng.getrandbits(36), "objectTypeId": "0-1", "propertyName": "email", "propertyValue": "a@b.co",
        "changeSource": "CRM_UI", "fromObjectId": rng.getrandbits(36), "toObjectId": rng.getrandbits(36),
        "fromObjectTypeId": "0-1", "toObjectTypeId": "0-2", "associationType": "CONTACT_TO_COMPANY",
        "primaryObjectId": rng.getrandbits(36), "mergedObjectIds": [rng.getrandbits(36)], "messageId": "m1",
    }  # fmt: skip


def odd_element(rng: random.Random) -> Any:
    """Return an event with one to four fields missing or of a wrong type, or a value that is not an event."""
    if rng.random() < 0.05:
        return rng.choice(_VALUES)
    event = element(rng)
    for _ in range(rng.randint(1, 4)):
        field = rng.choice(_FIELDS)
        if rng.random() < 0.25:
            event.pop(field, None)
        else:
            event[field] = rng.choice(_VALUES)
    return event


def _nested(rng: random.Random) -> bytes:
    deep, (left, right) = rng.choice(_DEEP), rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    inner = left * deep + b"1" + (right * deep if rng.random() < 0.7 else b"")
    if rng.random() < 0.5:
        return inner
    head = json.dumps(element(rng) | {"subscriptionType": "contact.propertyChange"})[:-1].encode()
    return b"[" + head + b',"propertyValue":' + inner + b"}]"


def _damaged(rng: random.Random, text: bytes) -> bytes:
    """Return `text` unchanged, truncated, with a few random bytes, or with an invalid time."""
    position = rng.randrange(len(text))
    invalid_time = rng.choice([b"1e3", b"9" * 30, b"-1", b"1.0"])
    variants = (
        text,
        text[:position],
        text[:position] + rng.randbytes(rng.randint(1, 4)) + text[position + 1 :],
        text.replace(b'"occurredAt": 1', b'"occurredAt": ' + invalid_time, 1),
    )
    return rng.choice(variants)


def odd_body(rng: random.Random) -> bytes:
    """Return a body with one oddity."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(_TEXTS)
    if kind == 1:
        return _nested(rng)
    if kind == 2:
        return rng.randbytes(rng.choice([1, 10, 100, 5_000]))
    content: Any = [odd_element(rng) for _ in range(rng.choice([1, 1, 2, 10, 300]))]
    if rng.random() < 0.1:
        content = content[0]  # a bare object or other value instead of an array
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5, allow_nan=True).encode("utf-8", "surrogatepass")
    return _damaged(rng, text)


def forged_body(rng: random.Random) -> bytes:
    """Return a valid batch for an unsigned request, which must be refused."""
    valid = element(rng) | {"subscriptionType": "contact.creation", "objectId": FORGED_OBJECT + rng.getrandbits(30)}
    return json.dumps([valid]).encode()
