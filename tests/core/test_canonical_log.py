"""spokes.core.telemetry.canonical_log: when lines are written."""

import asyncio
import io

import orjson
import pytest

from spokes.core.masking import Mask
from spokes.core.telemetry.canonical_log import CanonicalLog


class Writes(io.StringIO):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)


@pytest.fixture
def out() -> Writes:
    return Writes()


@pytest.fixture
def lines(out: Writes) -> CanonicalLog:
    return CanonicalLog(out, "web", Mask(["a-secret"]))


def test_line_is_written_at_once_where_no_loop_runs(lines: CanonicalLog, out: Writes) -> None:
    lines.write("request", {"status": 202}, "info")
    (written,) = out.writes
    told = orjson.loads(written)
    assert told.pop("timestamp").endswith("Z")
    assert told == {"status": 202, "event": "request", "process": "web", "level": "info"}


def test_lines_of_one_moment_are_one_write(lines: CanonicalLog, out: Writes) -> None:
    async def tell() -> None:
        for number in range(3):
            lines.write("request", {"number": number}, "info")
        assert not out.writes
        await asyncio.sleep(0.1)

    asyncio.run(tell())
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [0, 1, 2]
    assert len(out.writes) == 1


def test_line_of_a_loop_that_has_ended_is_written_with_the_next(lines: CanonicalLog, out: Writes) -> None:
    async def tell(number: int, seconds: float) -> None:
        lines.write("request", {"number": number}, "info")
        await asyncio.sleep(seconds)

    asyncio.run(tell(1, 0))
    asyncio.run(tell(2, 0.1))
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [1, 2]


def test_line_is_masked(lines: CanonicalLog, out: Writes) -> None:
    lines.write("request", {"reason": "a-secret"}, "info")
    assert "a-secret" not in out.writes[0]
