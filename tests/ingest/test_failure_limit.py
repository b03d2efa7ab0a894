"""ingest.failure_limit: how often an address may fail signature verification."""

from ingest.failure_limit import FailureLimit


def test_address_over_the_limit_is_limited_until_the_minute_ends() -> None:
    limit = FailureLimit(3)
    assert [limit.record_failure("a", 60.0) for _ in range(4)] == [False, False, False, True]
    assert limit.record_failure("a", 120.0) is False


def test_addresses_are_counted_separately() -> None:
    limit = FailureLimit(1)
    limit.record_failure("a", 60.0)
    assert limit.record_failure("b", 60.0) is False


def test_flood_from_ever_new_addresses_keeps_memory_bounded() -> None:
    limit = FailureLimit(1)
    for number in range(20_000):
        limit.record_failure(str(number), 60.0)
    assert len(limit.drain()) <= 10_001
