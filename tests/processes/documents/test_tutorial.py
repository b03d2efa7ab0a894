"""The commands and the code of docs/tutorial.md, in their order, with the wheel."""

import contextlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.deployment import ROOT
from tests.support.processes.installed_wheel import Installation, environment, wait_for

pytestmark = pytest.mark.slow  # a build, an environment, a whole deployment
PAGE = ROOT / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who does what the page says, in a folder."""

    def __init__(self, installed: Installation, folder: Path, open_processes: contextlib.ExitStack) -> None:
        self.installed = installed
        self.folder = folder
        self.outputs: dict[str, str] = {}
        self._open_processes = open_processes

    def write(self, code: str) -> None:
        """Write the file that the first line names."""
        first, _, rest = code.partition("\n")
        (self.folder / first.removeprefix("# ")).write_text(rest)

    def run(self, command: str) -> None:
        """Run one line; `make` needs a package index, so its targets are run with the installed wheel."""
        words = command.split()
        variables = {}
        while "=" in words[0]:
            name, _, variables[name] = words.pop(0).partition("=")
        match words:
            case ["cd", name]:
                self.folder /= name
            case ["make", "up"]:
                up = self._open_processes.enter_context(self.installed.start(self.folder, "up", "--traffic", "0"))
                wait_for(up, "worker_ready")
            case ["make", "test"]:
                python = self.installed.script.with_name("python")
                self._finish(command, [str(python), "-m", "pytest"], {})
            case ["spokes", "new", *_]:
                wheel = str(self.installed.wheel)
                self._finish(command, [str(self.installed.script), *words[1:], "--wheel", wheel], {})
            case ["spokes", *arguments]:
                self._finish(command, [str(self.installed.script), *arguments], variables)
            case _:
                raise AssertionError(f"the page has a command that this test does not know: {command}")

    def _finish(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=environment({"COLUMNS": "200", **variables}), capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"
        self.outputs[name] = done.stdout


def test_tutorial_does_what_it_says(installed: Installation, tmp_path: Path) -> None:
    with contextlib.ExitStack() as open_processes:
        reader = Reader(installed, tmp_path, open_processes)
        for language, text in BLOCKS:
            if language == "python":
                reader.write(text)
            else:
                for command in text.splitlines():
                    reader.run(command)
        subscribed = (reader.folder / "hubspot/src/app/webhooks/webhooks-hsmeta.json").read_text()

    assert "5 passed" in reader.outputs["make test"]
    assert "customers.welcome" in reader.outputs["spokes handlers"]
    sent = reader.outputs["spokes send contact.propertyChange --property lifecyclestage=customer --wait 30"]
    assert "processed" in sent
    assert "customers.welcome" in reader.outputs["spokes events"]
    assert "lifecyclestage" in subscribed
