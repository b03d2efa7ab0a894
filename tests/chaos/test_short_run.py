"""A short chaos run with a known seed: every part is started, broken under load, and the invariants are checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import ROOT


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_short_run_holds_every_invariant(tmp_path: Path) -> None:
    given = {"minutes": "0.2", "seed": "12414", "workers": "2", "rate": "20"}
    given["other"] = "HEAD"  # faults of the previous commit are not this one's
    command = [sys.executable, "-m", "chaos", *(word for name in given for word in (f"--{name}", given[name]))]
    environ = {**os.environ, "DATA_DIR": str(tmp_path)}
    run = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=230)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "invariants hold" in run.stdout
    assert list(tmp_path.iterdir()) == []
