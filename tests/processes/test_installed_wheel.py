"""The wheel in an environment of its own, called from folders that know nothing of this project."""

import json
import subprocess
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.support.deployment import ROOT
from tests.support.free_ports import free_port
from tests.support.processes.installed_wheel import PACKAGES, Installation, environment, wait_for

pytestmark = pytest.mark.slow  # a build, an environment, whole deployments
HANDLER = """
from core import NAME
from spokes import Event, Router, Tools
ROUTER = Router()
@ROUTER.register("contact.creation")
async def seen(event: Event, tools: Tools) -> None:
    assert NAME == "core of the project"
"""


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
        command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, timeout=180, check=False
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
            deadline = time.monotonic() + 120
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
        make, cwd=project, env=environment({}), capture_output=True, text=True, timeout=180, check=False
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
