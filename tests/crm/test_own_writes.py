"""The ledger of our own writes, on a real Redis."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable
from spokes.crm.own_writes import OwnWriteLedger

WRITE = (1, "contact", "7")


async def test_recorded_write_is_an_echo_until_it_is_removed(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": "+49", "city": ""})

    assert await ledger.is_echo(*WRITE, "phone", "+49")
    assert await ledger.is_echo(*WRITE, "city", None)
    await ledger.remove_write(*WRITE, {"phone": "+49"})
    assert not await ledger.is_echo(*WRITE, "phone", "+49")
    assert await ledger.is_echo(*WRITE, "city", "")


@pytest.mark.parametrize(
    ("write", "name", "value"),
    [
        ((2, "contact", "7"), "phone", "+49"),
        ((1, "company", "7"), "phone", "+49"),
        ((1, "contact", "8"), "phone", "+49"),
        ((1, "contact", "7"), "mobilephone", "+49"),
        ((1, "contact", "7"), "phone", "+48"),
        ((1, "contact", "7"), "phone", None),
    ],
)
async def test_other_changes_are_no_echo(redis: Redis, write: tuple[int, str, str], name: str, value: str) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": "+49"})

    assert not await ledger.is_echo(*write, name, value)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (" Ann@Example.com", "ann@example.com"),
        ("+1 (415) 555-2671", "+14155552671"),
        ("10.50", "10.5"),
        ("1,000", "1000"),
        ("007", "7"),
        ("TRUE", "true"),
        ("2024-01-01", "1704067200000"),
        ("2024-01-01T00:00:00Z", "1704067200000"),
    ],
)
async def test_value_reformatted_by_hubspot_is_an_echo(redis: Redis, ours: str, theirs: str) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": ours})

    assert await ledger.is_echo(*WRITE, "phone", theirs)


async def test_change_by_our_app_of_a_written_property_is_ours_at_any_value(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": "+49"})

    keys = ledger.keys_for_change(*WRITE, "phone", "something else", made_by_us=True)
    assert await redis.exists(*keys)


async def test_entry_expires(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key", ttl_s=1)
    await ledger.record_write(*WRITE, {"phone": "+49"})
    await asyncio.sleep(1.1)

    assert not await ledger.is_echo(*WRITE, "phone", "+49")


async def test_redis_holds_neither_values_nor_names(redis: Redis) -> None:
    await OwnWriteLedger(redis, b"key").record_write(*WRITE, {"favourite_colour": "ultramarine"})

    entries = [(key, await redis.get(key)) async for key in redis.scan_iter()]

    assert len(entries) == 3  # the value, its exact spelling, and that we wrote the property at all
    assert not any(word in repr(entries) for word in ("colour", "ultramarine", "contact"))


async def test_ledger_with_another_key_recognises_nothing(redis: Redis) -> None:
    await OwnWriteLedger(redis, b"key").record_write(*WRITE, {"phone": "+49"})

    assert not await OwnWriteLedger(redis, b"other").is_echo(*WRITE, "phone", "+49")


async def test_concurrent_callers_share_round_trips(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key")

    await asyncio.gather(*(ledger.record_write(1, "contact", str(i), {"phone": "x"}) for i in range(400)))
    are_echoes = await asyncio.gather(*(ledger.is_echo(1, "contact", str(i), "phone", "x") for i in range(401)))

    assert are_echoes == [True] * 400 + [False]
    assert len(redis.connection_pool._available_connections) <= 2


async def test_cancelled_caller_does_not_affect_others(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    cancelled = asyncio.create_task(ledger.is_echo(*WRITE, "phone", "x"))
    remaining = asyncio.create_task(ledger.is_echo(*WRITE, "phone", "y"))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await remaining is False


async def test_lookup_without_redis_is_crm_unavailable() -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")

    with pytest.raises(CRMUnavailable):
        await OwnWriteLedger(redis, b"key").is_echo(*WRITE, "phone", "x")

    await redis.aclose()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
async def test_any_text_is_recognised(redis: Redis, value: str) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": value})

    assert await ledger.is_echo(*WRITE, "phone", value)


async def test_change_made_by_other_counts_only_with_exact_spelling(redis: Redis) -> None:
    ledger = OwnWriteLedger(redis, b"key")
    await ledger.record_write(*WRITE, {"phone": "+14155552671"})
    matches = {
        value: await redis.exists(*ledger.keys_for_change(*WRITE, "phone", value, made_by_us=False, made_by_other=True))
        for value in ("+14155552671", "+1 (415) 555-2671")
    }
    assert matches == {"+14155552671": 1, "+1 (415) 555-2671": 0}
