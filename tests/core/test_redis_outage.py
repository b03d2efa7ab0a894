"""spokes.core.redis.outage: which errors are outages, and how an outage is logged."""

import pytest
from redis.exceptions import ResponseError

from spokes.core.redis.outage import is_outage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Errors writing to the AOF file: File too large", True),
        ("Command # 1 (SET k 1 EX 9) of pipeline caused error: MISCONF Errors writing to the AOF file", True),
        ("Command # 2 (HSET k OOM 1) of pipeline caused error: WRONGTYPE Operation against a key", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_full_memory_or_disk_is_an_outage(text: str, expected: bool) -> None:
    assert is_outage(ResponseError(text)) is expected
