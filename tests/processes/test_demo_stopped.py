"""A demo that is stopped while it starts leaves no folder and no process."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.deployment import ROOT


def processes_with(text: str) -> list[str]:
    """Return the ids of processes whose environment contains the text."""
    ids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or is another user's
            if text.encode() in path.read_bytes():
                ids.append(path.parent.name)
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.2, 0.7, 1.4, 2.5])
def test_demo_stopped_early_leaves_nothing(tmp_path: Path, delay_s: float) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "spokes.simulator", "demo"], cwd=ROOT, text=True,
        env={"PATH": os.environ["PATH"], "ENV_FILE": "", "DATA_DIR": str(data)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while processes_with(str(data)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (processes_with(str(data)), "Traceback" in output) == ([], False)
    assert list(data.glob("*")) == []
