"""spokes.core.delivery: the contract of web process and worker."""

import pickle
import tracemalloc

import arq.constants
import orjson
import pytest
from arq.jobs import deserialize_job
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.delivery import (
    JOB_NAME,
    Delivery,
    Entry,
    compress,
    decode,
    encode,
    is_oversized,
    job_payload,
    new_delivery_id,
)
from spokes.core.errors import UnreadableDelivery
from spokes.core.events import Intake
from spokes.core.redis.keys import (
    DEFAULT_IN_PROGRESS_KEY_PREFIX,
    DEFAULT_JOB_KEY_PREFIX,
    DEFAULT_QUEUE,
    DEFAULT_RETRY_KEY_PREFIX,
)
from tests.support.events import event

DELIVERY = Delivery("7-18a-ff", 7, 1795442400000, (Entry("aa", 0, event(1)), Entry("bb", 2, event(2))))


def test_delivery_is_equal_after_encoding_and_decoding() -> None:
    assert Delivery.from_job(decode(job_payload(DELIVERY, 5))["a"][0]) == DELIVERY


@pytest.mark.parametrize("intake", ["push", "journal", "backfill", "replay"])
def test_entries_keep_their_intake_in_the_queue(intake: Intake) -> None:
    delivery = Delivery("7-1-1", 7, 1, (Entry("aa", 0, event(1), intake=intake),))
    stored = Delivery.from_job(decode(job_payload(delivery, 5))["a"][0])
    assert (stored, stored.intake, stored.entries[0].event.intake) == (delivery, intake, intake)


def test_earlier_versions_read_entries_of_every_intake() -> None:
    delivery = Delivery("7-1-1", 7, 1, (Entry("aa", 0, event(1), intake="journal"),))
    assert delivery.to_job()["events"] == [("aa", 0, event(1))]


@pytest.mark.parametrize("intake", [None, "carrier_pigeon", 7, ["journal"]])
def test_delivery_without_a_readable_intake_was_pushed(intake: object) -> None:
    job = {**DELIVERY.to_job(), "intake": intake}
    assert Delivery.from_job(job).intake == "push"


def test_stock_arq_reads_the_job() -> None:
    job = deserialize_job(job_payload(DELIVERY, 5), deserializer=decode)
    assert (job.function, job.args[0]["id"], job.kwargs) == (JOB_NAME, "7-18a-ff", {})


def test_names_that_earlier_versions_used_are_those_of_arq() -> None:
    prefixes = (DEFAULT_JOB_KEY_PREFIX, DEFAULT_RETRY_KEY_PREFIX, DEFAULT_IN_PROGRESS_KEY_PREFIX)
    names = arq.constants
    assert prefixes == (names.job_key_prefix, names.retry_key_prefix, names.in_progress_key_prefix)
    assert names.default_queue_name == DEFAULT_QUEUE


def test_ids_of_one_portal_sort_by_time() -> None:
    assert new_delivery_id(7)[:13] <= new_delivery_id(7)[:13]


def test_hundred_events_compress_to_less_than_a_third() -> None:
    entries = tuple(Entry(f"{n:020x}", 0, event(n)) for n in range(100))
    plain = orjson.dumps([entry.raw for entry in entries])
    assert len(job_payload(Delivery("7-1-1", 7, 1, entries), 5)) < len(plain) / 3


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"\x02",
        b"\x03{}",
        b"\x01[]",
        b"\x02garbage",
        pickle.dumps({"f": "x"}),
        job_payload(DELIVERY, 5)[:-3],
    ],
)
def test_foreign_payload_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableDelivery):
        decode(payload)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_unreadable(payload: bytes) -> None:
    try:
        decode(payload)
    except UnreadableDelivery:
        return


@pytest.mark.parametrize(
    "job", [None, [], {}, {"id": 1}, {"id": "a", "portal": "x", "at": 1, "events": []}, {"events": 3}]
)
def test_foreign_argument_is_unreadable(job: object) -> None:
    with pytest.raises(UnreadableDelivery):
        Delivery.from_job(job)


def test_exception_in_a_result_is_stored_by_its_class_only() -> None:
    assert decode(encode({"r": ValueError("secret@example.com")})) == {"r": "ValueError"}


def bomb(unit: bytes, size: int) -> bytes:
    filler = b",".join([unit] * (size // (len(unit) + 1)))
    return compress(b'{"t":null,"f":"process_delivery","a":[{"events":[' + filler + b"]}]}")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"{}", b"[]", b"1", b'"a"', b'{"a":1}'])
@pytest.mark.parametrize("size", [8 * 2**20, 57 * 2**20])
def test_small_payload_that_asks_for_much_memory_is_unreadable(unit: bytes, size: int) -> None:
    payload = bomb(unit, size)
    tracemalloc.start()
    with pytest.raises(UnreadableDelivery):
        decode(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert is_oversized(payload)


def test_delivery_of_the_largest_values_that_hubspot_sends_is_readable() -> None:
    value = '{[,\\"é' * 9_000
    entries = tuple(Entry(f"{n:020x}", 0, event(n, propertyValue=value)) for n in range(100))
    payload = job_payload(Delivery("7-1-1", 7, 1, entries), 5)
    assert len(Delivery.from_job(decode(payload)["a"][0]).entries) == 100
    assert not is_oversized(payload)


def test_further_fields_are_stored_beside_the_entries_which_earlier_versions_can_read() -> None:
    entries = (Entry("a", 1, event(1), 2, 1_800_000_000_000), Entry("b", 0, event(2)), Entry("c", 1, event(3), 0, 7))
    delivery = Delivery("1-x", 1, 5, entries)
    job = delivery.to_job()
    assert [len(event) for event in job["events"]] == [3, 3, 3]
    assert Delivery.from_job(job) == delivery


@pytest.mark.parametrize("name", ["free_runs", "failing_since"])
@pytest.mark.parametrize("values", [7, [1], {"a": "x"}, {"a": None}])
def test_further_field_of_another_type_makes_a_delivery_unreadable(name: str, values: object) -> None:
    job = {**Delivery("1-x", 1, 5, (Entry("a", 1, event(1)),)).to_job(), name: values}
    with pytest.raises(UnreadableDelivery):
        Delivery.from_job(job)
