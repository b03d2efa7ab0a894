"""A short run of `chaos` with a fixed seed: the whole stack is started, disrupted under load, and checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import ROOT


@pytest.mark.slow
def test_short_run_holds_every_invariant(tmp_path: Path) -> None:
    options = {"minutes": "0.2", "seed": "12414", "workers": "2", "rate": "20"}
    options["other"] = "HEAD"  # a fault of the previous commit must not fail this one
    command = [
        sys.executable,
        "-m",
        "chaos",
        *(argument for name in options for argument in (f"--{name}", options[name])),
    ]
    environ = {**os.environ, "DATA_DIR": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=230)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "invariants hold" in run.stdout
    assert list(tmp_path.iterdir()) == []
