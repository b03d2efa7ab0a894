"""spokes.core.redis.outage: which errors are outages, and how an outage is logged."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from spokes.core.redis import outage as redis_outage
from spokes.core.redis.outage import RedisOutage, is_outage, is_redis_outage


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Errors writing to the AOF file: File too large", True),
        ("Command # 1 (SET k 1 EX 9) of pipeline caused error: MISCONF Errors writing to the AOF file", True),
        ("Command # 2 (HSET k OOM 1) of pipeline caused error: WRONGTYPE Operation against a key", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_full_memory_or_disk_is_an_outage(message: str, expected: bool) -> None:
    assert is_outage(ResponseError(message)) is expected


def test_connection_error_of_a_handler_is_not_a_redis_outage() -> None:
    assert (is_redis_outage(ConnectionError()), is_redis_outage(RedisConnectionError())) == (False, True)


async def test_outage_has_one_log_line_at_its_start_and_one_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_outage, "_RETRY_S", 0.0)
    outage = RedisOutage()
    with capture_logs() as lines:
        for _ in range(2):
            await outage.wait(RedisConnectionError())
        for _ in range(2):
            outage.mark_available()
    assert [line["event"] for line in lines] == ["redis_outage_started", "redis_outage_ended"]
