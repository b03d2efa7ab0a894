"""Any JSON in any fields: every admitted event ends exactly once, and no other event of its delivery waits for it."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

import orjson
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL, Action, Outcome
from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from spokes.core.redis.keys import QUEUES
from spokes.core.settings import Settings
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import ClassifiedDelivery, classify
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from spokes.simulator.app import Simulator
from tests.support.events import event, recorded
from tests.support.handlers.reading import ROUTER, wrong_attributes
from tests.support.odd_elements import BASES, odd_element, single_faults
from workers.worker import build_worker

PORTAL = 50112233
KEYS = EventKeys(b"secret")
ALLOW_LIST = AllowList(ROUTER.registrations)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 2**64).map(str) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def classified(body: bytes) -> list[ClassifiedDelivery]:
    return classify(parse_body(body), allow_list=ALLOW_LIST, keys=KEYS, portal_ids=(), now_ms=1)


def assert_stored_form_is_stable(raw: dict[str, object]) -> None:
    """The event of an element has typed attributes; read from the queue again it is the same event."""
    try:
        parsed = Event(raw)
    except MalformedEvent:
        return
    assert wrong_attributes(parsed) == []
    again = Event(orjson.loads(orjson.dumps(parsed.raw)))
    assert (KEYS(again), again.raw) == (KEYS(parsed), parsed.raw)


@given(st.sampled_from(sorted(BASES)), st.data())
def test_any_value_in_any_field_is_classified_and_typed(type_: str, data: st.DataObject) -> None:
    raw = event(1, subscriptionType=type_, **BASES[type_])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.sampled_from([*raw, "eventType", "newObjectId", "objectTypeId"]))] = data.draw(ANY_JSON)
    body = orjson.dumps([raw, event(2)])
    assert sum(delivery.received_count for delivery in classified(body)) == 2
    FastPath(ALLOW_LIST, KEYS, ()).classify(body, 1)
    assert_stored_form_is_stable(raw)


@given(st.randoms(use_true_random=False))
def test_any_json_text_costs_its_own_element_only(rng: random.Random) -> None:
    elements = [odd_element(rng, number) for number in range(4)]
    good = [orjson.dumps(event(number)) for number in (10, 11)]
    body = b"[" + b",".join((*elements, *good)) + b"]"
    deliveries = classified(body)
    assert sum(delivery.received_count for delivery in deliveries) == 6
    keys = {admitted.key for delivery in deliveries for admitted in delivery.events}
    assert {KEYS(Event(event(number))) for number in (10, 11)} <= keys
    assert FastPath(ALLOW_LIST, KEYS, ()).classify(body, 1) is None or not any(d.malformed for d in deliveries)
    for delivery in deliveries:
        for admitted in delivery.events:
            assert isinstance(admitted.element, dict)
            assert_stored_form_is_stable(admitted.element)


async def run_all(bodies: Iterable[bytes], environ: dict[str, str], redis: Redis, hubspot: Simulator) -> Counter[str]:
    """Admit the bodies' events, run them in a worker, and return how often each event key was admitted."""
    admission, admitted = Admission(redis, dedupe_ttl_s=3600), Counter[str]()
    for body in bodies:
        for delivery in classify(parse_body(body), allow_list=ALLOW_LIST, keys=KEYS, portal_ids=(PORTAL,), now_ms=1):
            admitted.update(entry.key for entry in (await admission.admit(delivery)).events)
    await admission.close()
    more = {"HANDLERS": "tests.support.handlers.reading", "HUBSPOT_API_URL": hubspot.url, "PORTAL_IDS": str(PORTAL)}
    worker = build_worker(
        Settings.from_env({**environ, **more, "DATABASE_URL": "postgres://127.0.0.1:1/none"}), burst=True
    )
    worker._handle_signals = False
    try:
        async with asyncio.timeout(60):
            await worker.async_run()
    finally:
        await worker.close()
    return admitted


async def assert_each_ended_once(admitted: Counter[str], redis: Redis) -> None:
    """Every admitted event has one terminal outcome, none is dead, and none had to wait for another run."""
    records = await recorded(redis)
    ended = Counter(record.event_key for record in records if record.outcome in TERMINAL)
    assert (ended, [await redis.zcard(queue) for queue in QUEUES.values()]) == (admitted, [0, 0])
    events = [record for record in records if record.action is Action.EVENT]
    waited = [record for record in events if record.outcome in {Outcome.DEAD, Outcome.RETRIED, Outcome.PARKED}]
    assert [(record.outcome, record.reason) for record in waited] == []


async def test_event_with_one_odd_field_ends_exactly_once(
    environ: dict[str, str], redis: Redis, hubspot: Simulator
) -> None:
    elements = list(single_faults())
    bodies = (orjson.dumps(elements[start : start + 100]) for start in range(0, len(elements), 100))
    admitted = await run_all(bodies, environ, redis, hubspot)
    assert len(admitted) > 4000
    await assert_each_ended_once(admitted, redis)


async def test_event_with_many_odd_fields_ends_exactly_once(
    environ: dict[str, str], redis: Redis, hubspot: Simulator
) -> None:
    rng = random.Random(16)
    bodies = [
        b"["
        + b",".join((*(odd_element(rng, 100 * n + i) for i in range(19)), orjson.dumps(event(100 * n + 50))))
        + b"]"
        for n in range(60)
    ]
    admitted = await run_all(bodies, environ, redis, hubspot)
    assert {KEYS(Event(event(100 * n + 50))) for n in range(60)} <= admitted.keys()
    assert len(admitted) > 300
    await assert_each_ended_once(admitted, redis)
