"""Web processes and workers that a test starts."""

import subprocess
import sys

from spokes.simulator.demo import clean_environment
from tests.support.deployment import ROOT


class RunningProcesses:
    """Processes in the order in which they were started."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, environ: dict[str, str]) -> None:
        """Run `python -m module` with the settings in `environ` only."""
        command, env = [sys.executable, "-m", module], clean_environment(environ)
        self._started.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL))

    def kill(self) -> None:
        """Kill all, and wait for their ends."""
        for process in self._started:
            process.kill()
            process.wait()
