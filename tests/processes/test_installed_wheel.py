"""The wheel in an environment of its own, called from folders that know nothing of this project."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from spokes.core.process.listening_port import free_port
from tests.support.deployment import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]  # a build, an environment, whole deployments
PACKAGES = ("ingest", "spokes", "workers")
HANDLER = """
from core import NAME
from spokes import Event, Router, Tools
ROUTER = Router()
@ROUTER.register("contact.creation")
async def seen(event: Event, tools: Tools) -> None:
    assert NAME == "core of the project"
"""


class Installation(NamedTuple):
    """An environment with the wheel, and nothing else of this project."""

    wheel: Path
    script: Path

    def run(self, folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `spokes` in a folder until it ends."""
        return subprocess.run(
            [str(self.script), *arguments], cwd=folder, env=environment(environ), capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip

    @contextlib.contextmanager
    def start(self, folder: Path, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
        """Run `spokes` in a folder until the block ends; it must end well."""
        process = subprocess.Popen(
            [str(self.script), *arguments], cwd=folder, env=environment(environ), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PORT": "0", **environ}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Build the wheel from a copy of the tree and install it; its dependencies are those of this environment."""
    base = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "handlers", "tests"):
        shutil.copytree(ROOT / name, base / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, base / "tree")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(base), "."]
    subprocess.run(build, cwd=base / "tree", check=True, timeout=120)
    [wheel] = base.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(base / "venv")], check=True, timeout=60)
    python = base / "venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    [packages] = (base / "venv" / "lib").glob("python*/site-packages")
    found = {path for path in sys.path if path.endswith("-packages")} | {sysconfig.get_path("purelib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(found)))
    return Installation(wheel, python.with_name("spokes"))


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line of the output that contains the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError("".join(lines))


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_wheel_has_every_file_of_the_product_and_no_other(installed: Installation) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if "__pycache__" not in path.parts)
    product = {str(path.relative_to(ROOT)) for path in files if path.is_file()}
    assert {name for name in names if ".dist-info/" not in name} == product
    assert {name.partition("-")[0] for name in names if ".dist-info/" in name} == {"spokes_hubspot"}


def test_commands_work_in_an_empty_folder(installed: Installation, tmp_path: Path) -> None:
    with installed.start(tmp_path, "up", "--traffic", "0") as up:
        wait_for(up, "Ready: ")
        wait_for(up, "worker_ready")
        sent = installed.run(tmp_path, "send", "contact.creation", "--json")
        doctor = installed.run(tmp_path, "doctor", "--json")
    assert json.loads(sent.stdout)["ignored"] == 1
    findings = [json.loads(line) for line in doctor.stdout.splitlines()]
    assert [each["sentence"] for each in findings if each["level"] == "fault"] == []
    assert "There are no handlers" in doctor.stdout


def test_demo_without_its_handlers_is_a_sentence(installed: Installation, tmp_path: Path) -> None:
    command = [str(installed.script.with_name("python")), "-m", "spokes.simulator", "demo"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "run `make demo` in a clone" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_folder_without_handlers_is_refused_in_production(installed: Installation, tmp_path: Path) -> None:
    done = installed.run(tmp_path, "handlers", ENV="production")
    assert (done.returncode, done.stderr) == (2, "HANDLERS names 'handlers', and there is no such package.\n")


def test_project_with_packages_called_like_parts_of_ours_runs(installed: Installation, tmp_path: Path) -> None:
    for name in ("core", "console", "audit", "crm", "alembic", "redis"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"NAME = '{name} of the project'")
    (tmp_path / "handlers.py").write_text(HANDLER)
    port = free_port()
    with installed.start(tmp_path, "up", "--traffic", "0") as up:
        wait_for(up, "The console:")  # the file for other commands is written
        sent = installed.run(tmp_path, "send", "contact.creation", "--wait", "30", "--json")
        doctor = installed.run(tmp_path, "doctor")
        environ = json.loads((tmp_path / ".spokes" / "up.json").read_text())["environ"]
        burst = installed.run(tmp_path, "worker", "--burst", **environ)
        with installed.start(tmp_path, "web", **{**environ, "PORT": str(port), "CONSOLE_KEY": ""}):
            deadline = time.monotonic() + 60
            while not is_ready(port) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert is_ready(port)
    assert json.loads(sent.stdout.splitlines()[1])["outcome"] == "processed"
    assert (burst.returncode, "worker_ready" in burst.stdout + burst.stderr) == (0, True), burst.stderr
    assert (doctor.returncode, "FAULT" in doctor.stdout) == (0, False), doctor.stdout


def test_new_project_is_tested_and_runs(installed: Installation, tmp_path: Path) -> None:
    written = installed.run(tmp_path, "new", "my-crm", "--wheel", str(installed.wheel))
    project, venv = tmp_path / "my-crm", installed.script.parents[1]
    (venv / "installed").touch()  # the Makefile's mark of an environment that has all requirements
    make = ["make", "test", f"VENV={venv}"]
    tested = subprocess.run(
        make, cwd=project, env=environment({}), capture_output=True, text=True, timeout=90, check=False
    )
    with installed.start(project, "up", "--traffic", "0") as up:
        wait_for(up, "The console:")
        sent = installed.run(project, "send", "contact.creation", "--wait", "30", "--json")
    assert written.returncode == 0, written.stderr
    assert "2 passed" in tested.stdout, tested.stdout + tested.stderr
    outcome = json.loads(sent.stdout.splitlines()[1])
    assert (outcome["outcome"], outcome["handler"]) == ("processed", "contacts.keep_phone_dialable")


@pytest.mark.parametrize("name", ["ingest", "workers", "spokes"])
def test_project_with_a_package_called_like_ours_gets_a_sentence(
    name: str, installed: Installation, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / "handlers.py").write_text(HANDLER)
    done = installed.run(tmp_path, "up")
    assert (done.returncode, done.stderr.startswith(f"{name}: Spokes has a package {name!r} too")) == (2, True)
