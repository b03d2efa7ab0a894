"""The demo, run from the command line."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.collect import still_running
from spokes.crm.scopes import compare_scopes, required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.routing import load_router
from spokes.simulator.demo.portals_act import INSTALLING
from spokes.simulator.demo.scenario import SCOPES
from tests.support.deployment import ROOT


def demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "spokes.simulator", "demo", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_every_row_of_a_small_demo_agrees(tmp_path: Path) -> None:
    process = demo(tmp_path, "--size", "0.1", "--seed", "7")
    output, _ = process.communicate(timeout=230)
    assert process.returncode == 0, output
    assert output.count("agrees") > 20
    lines = output.strip().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("Spokes made "))
    last = lines[first : first + 5]
    assert re.fullmatch(
        r"Spokes made [\d,]+ calls for [\d,]+ events \(\d+ events a call\); \d+ w\w+ answered 429\.", last[0]
    )
    assert last[1].startswith("Another program with the same token used up the limit (190 calls in 10 s) on purpose")
    assert last[4].startswith("Every event has an outcome: ")
    assert any(line.startswith("Nothing ran for 30 hours") and line.endswith("Lost: 0.") for line in lines)
    assert all(f" {portal_id} " in output for portal_id in INSTALLING)
    assert "needs_reinstall" in output  # the portal that removed the app
    assert list(still_running(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_interrupted_demo_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    process = demo(tmp_path)
    deadline = time.monotonic() + 90
    while len(list(still_running(tmp_path))) < 5 and time.monotonic() < deadline:  # demo, up, valkey, web, a worker
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in output) == (130, False), output
    assert list(still_running(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_token_of_the_demo_has_the_scopes_that_the_handlers_need_and_no_other() -> None:
    comparison = compare_scopes(required_scopes(handler_declarations(load_router("handlers"))), SCOPES)
    assert (set(comparison.missing), set(comparison.excess)) == (set(), set())
