"""spokes.core.telemetry.canonical_log: when lines are written, and that they are masked."""

import asyncio
import io

import orjson
import pytest

from spokes.core.masking import Mask
from spokes.core.telemetry.canonical_log import CanonicalLog


class Writes(io.StringIO):
    """Records each write."""

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


def test_line_is_written_at_once_without_an_event_loop(lines: CanonicalLog, out: Writes) -> None:
    lines.write("request", {"status": 202}, "info")
    (written,) = out.writes
    line = orjson.loads(written)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"status": 202, "event": "request", "process": "web", "level": "info"}


def test_lines_within_ten_milliseconds_are_one_write(lines: CanonicalLog, out: Writes) -> None:
    async def write() -> None:
        for number in range(3):
            lines.write("request", {"number": number}, "info")
        assert not out.writes
        await asyncio.sleep(0.1)

    asyncio.run(write())
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [0, 1, 2]
    assert len(out.writes) == 1


def test_line_of_a_closed_loop_is_written_with_the_next_line(lines: CanonicalLog, out: Writes) -> None:
    async def write(number: int, seconds: float) -> None:
        lines.write("request", {"number": number}, "info")
        await asyncio.sleep(seconds)

    asyncio.run(write(1, 0))
    asyncio.run(write(2, 0.1))
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [1, 2]


def test_line_is_masked(lines: CanonicalLog, out: Writes) -> None:
    lines.write("request", {"reason": "a-secret"}, "info")
    assert "a-secret" not in out.writes[0]
