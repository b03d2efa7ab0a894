"""Progress of long work in a pipe."""

import time
from itertools import islice

import pytest

from spokes.core.process.progress_lines import ProgressLines, pauses, progress_line


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [
        (1_200, 4_800, "Sending: 1,200 of 4,800 (25 %) after 62 s"),
        (1_200, None, "Sending: 1,200 after 62 s"),
        (0, None, "Sending: still working after 62 s"),
        (0, 0, "Sending: still working after 62 s"),
    ],
)
def test_line_says_what_is_done_of_how_much_and_since_when(done: int, total: int | None, line: str) -> None:
    assert progress_line("Sending", done, total, 61.9) == line


def test_lines_become_rarer_down_to_one_a_minute() -> None:
    assert list(islice(pauses(), 6)) == [5, 10, 20, 40, 60, 60]


def test_long_work_writes_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    deadline = time.monotonic() + 30
    with ProgressLines("Reading", None, first_pause_s=0.01) as progress:
        progress.update(2, 3)
        while len(lines) < 3 and time.monotonic() < deadline:
            lines += capsys.readouterr().err.splitlines()
            time.sleep(0.01)
    assert {line.partition(" after ")[0] for line in lines[1:]} == {"Reading: 2 of 3 (66 %)"}


def test_short_work_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLines("Reading", 3) as progress:
        progress.update(3)
    assert capsys.readouterr().err == ""
