"""Any JSON value in any field: every admitted event ends exactly once, and no other event waits for it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.settings import Settings
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import classify
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from spokes.simulator.app import Simulator
from tests.support.events import event, recorded
from tests.support.reading_handler import ROUTER, wrong_attributes
from workers.worker import build_worker

PORTAL = 50112233
KEYS = EventKeys(b"secret")
ALLOW_LIST = AllowList(ROUTER.registrations)
BASES: dict[str, dict[str, Any]] = {
    "contact.creation": {},
    "object.deletion": {"objectTypeId": "2-77"},
    "contact.propertyChange": {"propertyName": "email", "propertyValue": "a@b.example", "isSensitive": False},
    "contact.merge": {"primaryObjectId": 5, "mergedObjectIds": [6], "newObjectId": 7, "numberOfPropertiesMoved": 1},
    "deal.associationChange": {
        "fromObjectId": 1, "toObjectId": 2, "associationType": "DEAL_TO_CONTACT", "associationRemoved": False,
        "isPrimaryAssociation": True, "fromObjectTypeId": "0-3", "toObjectTypeId": "0-1", "associationTypeId": 3,
        "associationCategory": "USER_DEFINED",
    },
}  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 7, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 1.5, 8.0, 1e300, "", " ", "x", "12", "012",
    "-3", "1" * 30, "true", "REDACTED", "\u0000", "\ufffd🚀", "a:*", "0-1", [], [1], ["1", 2], [None], ["x"], [[]],
    {}, {"a": 1}, {"value": "12"}, "1,2", "x" * 3000, 318845120774,
]  # fmt: skip


def odd_elements() -> Iterator[dict[str, Any]]:
    """Yield each kind of event with each odd value in each of its fields."""
    number = 0
    for type_, fields in BASES.items():
        for name in [*event(), *fields, "objectTypeId", "newObjectId", "mergedObjectIds", "propertyName", "unknown"]:
            for value in ODD_VALUES:
                number += 1
                raw = event(number, subscriptionType=type_, **fields)
                yield {**raw, name: value}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 2**64).map(str) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(sorted(BASES)), st.data())
def test_any_value_in_any_field_is_classified_and_typed(type_: str, data: st.DataObject) -> None:
    raw = event(1, subscriptionType=type_, **BASES[type_])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.sampled_from([*raw, "eventType", "newObjectId", "objectTypeId"]))] = data.draw(ANY_JSON)
    body = orjson.dumps([raw, event(2)])
    deliveries = classify(parse_body(body), allow_list=ALLOW_LIST, keys=KEYS, portal_ids=(), now_ms=1)
    assert sum(delivery.received_count for delivery in deliveries) == 2
    FastPath(ALLOW_LIST, KEYS, ()).classify(body, 1)
    try:
        parsed = Event(raw)
    except MalformedEvent:
        return
    assert wrong_attributes(parsed) == []
    again = Event(parsed.raw)
    assert (KEYS(again), again.raw) == (KEYS(parsed), parsed.raw)


async def test_every_admitted_event_ends_exactly_once(
    environ: dict[str, str], redis: Redis, hubspot: Simulator
) -> None:
    elements = list(odd_elements())
    admission, admitted = Admission(redis, dedupe_ttl_s=3600), Counter[str]()
    for start in range(0, len(elements), 100):
        body = orjson.dumps(elements[start : start + 100])
        for delivery in classify(parse_body(body), allow_list=ALLOW_LIST, keys=KEYS, portal_ids=(PORTAL,), now_ms=1):
            admitted.update(entry.key for entry in (await admission.admit(delivery)).events)
    await admission.close()
    more = {"HANDLERS": "tests.support.reading_handler", "HUBSPOT_API_URL": hubspot.url, "PORTAL_IDS": str(PORTAL)}
    worker = build_worker(
        Settings.from_env({**environ, **more, "DATABASE_URL": "postgres://127.0.0.1:1/none"}), burst=True
    )
    worker._handle_signals = False
    try:
        async with asyncio.timeout(60):
            await worker.async_run()
    finally:
        await worker.close()
    records = await recorded(redis)
    ended = Counter(record.event_key for record in records if record.outcome in TERMINAL)
    assert len(admitted) > 2000
    assert (ended, await redis.zcard(JOB_QUEUE)) == (admitted, 0)
    assert [record.reason for record in records if record.outcome is Outcome.DEAD] == []
