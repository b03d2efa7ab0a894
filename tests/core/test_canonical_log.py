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
    lines.write("request", {"status": 202}, "info", is_generated=True)
    (written,) = out.writes
    line = orjson.loads(written)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"status": 202, "event": "request", "process": "web", "level": "info"}


def test_lines_within_ten_milliseconds_are_one_write(lines: CanonicalLog, out: Writes) -> None:
    async def write() -> None:
        for number in range(3):
            lines.write("request", {"number": number}, "info", is_generated=True)
        assert not out.writes
        await asyncio.sleep(0.1)

    asyncio.run(write())
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [0, 1, 2]
    assert len(out.writes) == 1


def test_line_of_a_closed_loop_is_written_with_the_next_line(lines: CanonicalLog, out: Writes) -> None:
    async def write(number: int, seconds: float) -> None:
        lines.write("request", {"number": number}, "info", is_generated=True)
        await asyncio.sleep(seconds)

    asyncio.run(write(1, 0))
    asyncio.run(write(2, 0.1))
    assert [orjson.loads(line)["number"] for line in "".join(out.writes).splitlines()] == [1, 2]


@pytest.mark.parametrize("neighbours", [[], [True], [True, False, True]])
def test_line_with_text_of_others_is_masked_among_any_lines(
    lines: CanonicalLog, out: Writes, neighbours: list[bool]
) -> None:
    async def write() -> None:
        for is_generated in [*neighbours, False, *neighbours]:
            fields = {"status": 202} if is_generated else {"reason": "a-secret"}
            lines.write("request", fields, "info", is_generated=is_generated)

    asyncio.run(write())
    lines.flush()
    assert "a-secret" not in "".join(out.writes)
    assert "".join(out.writes).count("***") == 1 + 2 * neighbours.count(False)


def test_lines_of_generated_ids_are_not_searched(out: Writes) -> None:
    lines = CanonicalLog(out, "web", Mask(["7-1-1"]))
    lines.write("request", {"deliveries": ["7-1-1"]}, "info", is_generated=True)
    lines.write("request", {"deliveries": ["7-1-1"]}, "info", is_generated=False)
    assert ["7-1-1" in text for text in out.writes] == [True, False]
