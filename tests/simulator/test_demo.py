"""The demo as a user runs it: from the command line, in processes of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.deployment import ROOT


def demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "spokes.simulator", "demo", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left_over(tmp_path: Path) -> list[str]:
    """The command lines of processes that work for this demo."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended while we looked, or is not ours to look at
        if f"DATA_DIR={tmp_path}".encode() in environ and state != "Z":
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.timeout(180)
def test_small_day_ends_with_every_row_agreeing(tmp_path: Path) -> None:
    process = demo(tmp_path, "--size", "0.1", "--seed", "7")
    output, _ = process.communicate(timeout=170)
    assert process.returncode == 0, output
    assert output.count("agrees") > 20
    assert left_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(90)
def test_interrupted_demo_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    process = demo(tmp_path)
    deadline = time.monotonic() + 40
    while len(left_over(tmp_path)) < 5 and time.monotonic() < deadline:  # demo, up, valkey, web, a worker
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=45)
    assert (process.returncode, "Traceback" in output) == (130, False), output
    assert left_over(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
