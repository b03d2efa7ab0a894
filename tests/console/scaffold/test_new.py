"""`spokes new`: a project that is complete, consistent with itself, and written only where nothing was."""

import ast
import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from spokes.console.cli import COMMANDS
from spokes.console.scaffold.project_files import Project, project_files
from spokes.core.version import VERSION
from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.routing import load_router
from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import ROOT

ENV_EXAMPLE = ROOT / ".env.example"
FILES = project_files(Project("my-crm", "my_crm"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    done = new(tmp_path / "my-crm")
    assert (done.returncode, "is ready" in done.stdout, done.stderr) == (0, True, "")
    return tmp_path / "my-crm"


def new(folder: Path, *arguments: str) -> CompletedCommand:
    return spokes({}, "new", str(folder), *arguments)


def test_project_has_handler_test_deployment_and_hubspot_app(project: Path) -> None:
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert files == {
        "my_crm/__init__.py", "my_crm/handlers/__init__.py", "my_crm/handlers/contacts.py", "tests/test_contacts.py",
        "hubspot/hsproject.json", "hubspot/spokes-export.json", "hubspot/src/app/app-hsmeta.json",
        "hubspot/src/app/webhooks/webhooks-hsmeta.json",
        ".github/workflows/check.yml", ".dockerignore", ".env.example", ".gitignore", "Dockerfile", "Makefile",
        "Procfile", "README.md", "app.json", "pyproject.toml", "requirements.txt", "requirements-dev.txt",
    }  # fmt: skip


@pytest.mark.slow
def test_tests_of_the_project_pass(project: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "spokes.testing.plugin", "-q"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_files_can_be_read_by_the_user_of_a_container(project: Path) -> None:
    private = [path for path in project.rglob("*") if not path.stat().st_mode & stat.S_IROTH]
    assert private == []


def test_app_and_subscriptions_are_those_of_the_handlers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path])
    router = load_router("my_crm.handlers")
    app = json.loads((project / "hubspot/src/app/app-hsmeta.json").read_text())
    webhooks = json.loads((project / "hubspot/src/app/webhooks/webhooks-hsmeta.json").read_text())
    granted = set(app["config"]["auth"]["requiredScopes"])
    needed = required_scopes(handler_declarations(router))
    assert [alternatives for alternatives in needed if not alternatives & granted] == []
    assert granted == {scope for alternatives in needed for scope in alternatives & granted}
    subscribed = {
        f"{each['objectType']}.{each['subscriptionType'].partition('.')[2]}"
        + (f":{each['propertyName']}" if "propertyName" in each else "")
        for each in webhooks["config"]["subscriptions"]["crmObjects"]
    }
    assert subscribed == router.registrations


def test_export_finds_nothing_to_add_to_a_new_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    done = spokes({"HANDLERS": "my_crm.handlers"}, "subscriptions", "export", "--check")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("path", sorted(FILES))
def test_every_file_can_be_parsed(path: str) -> None:
    text = FILES[path]
    parsers = {".json": json.loads, ".toml": tomllib.loads, ".py": ast.parse, ".yml": yaml.safe_load}
    assert parsers.get(Path(path).suffix, str)(text)
    assert "{{" not in text.replace("${{", "")
    assert "{%" not in text


def test_files_name_no_address_but_examples() -> None:
    addresses = set(re.findall(r"https?://([^/\"\s`]+)", "\n".join(FILES.values())))
    assert addresses <= {"hooks.example.com", "your-app.herokuapp.com.", "YOUR-HOST"}
    assert "index-url" not in "\n".join(FILES.values())


def processes(procfile: str) -> list[str]:
    return [line.partition(":")[0] for line in procfile.splitlines()]


def test_project_is_deployed_as_spokes_itself() -> None:
    ours, new_ = json.loads((ROOT / "app.json").read_text()), json.loads(FILES["app.json"])
    differing = {"name", "description", "keywords"}
    assert {key: new_[key] for key in new_.keys() - differing} == {key: ours[key] for key in ours.keys() - differing}
    assert processes(FILES["Procfile"]) == processes((ROOT / "Procfile").read_text())


def test_project_names_the_variables_of_our_own_example() -> None:
    names = [re.findall(r"^(\w+)=", text, re.MULTILINE) for text in (FILES[".env.example"], ENV_EXAMPLE.read_text())]
    assert names[0] == names[1]


def test_every_process_of_the_project_is_a_command() -> None:
    commands = {command.name for command in COMMANDS}
    assert {line.split()[-1] for line in FILES["Procfile"].splitlines()} <= commands


def test_project_stays_within_the_major_version() -> None:
    assert FILES["requirements.txt"] == f"spokes-hubspot>={VERSION},<{int(VERSION.partition('.')[0]) + 1}\n"


def test_local_wheel_is_copied_and_installed(tmp_path: Path) -> None:
    wheel = tmp_path / "spokes_hubspot-1.0.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    assert new(tmp_path / "my-crm", "--wheel", str(wheel)).returncode == 0
    assert (tmp_path / "my-crm" / "wheels" / wheel.name).read_bytes() == b"wheel"
    assert (tmp_path / "my-crm" / "requirements.txt").read_text() == f"./wheels/{wheel.name}\n"
    assert "COPY wheels wheels\n" in (tmp_path / "my-crm" / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["other-1.0.0-py3-none-any.whl", "spokes_hubspot-1.0.0.zip", "missing.whl"])
def test_file_that_is_no_wheel_of_ours_is_refused(name: str, tmp_path: Path) -> None:
    if name != "missing.whl":
        (tmp_path / name).touch()
    done = new(tmp_path / "my-crm", "--wheel", str(tmp_path / name))
    assert (done.returncode, "is no wheel of spokes-hubspot" in done.stderr) == (2, True)
    assert not (tmp_path / "my-crm").exists()


def test_folder_that_is_not_empty_is_refused(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    done = new(project)
    assert (done.returncode, "exists and is not empty" in done.stderr) == (2, True)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_empty_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "our-crm").mkdir()
    monkeypatch.chdir(tmp_path / "our-crm")
    assert new(Path()).returncode == 0
    assert (tmp_path / "our-crm" / "our_crm" / "handlers" / "contacts.py").exists()


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my-crm").touch()
    done = new(tmp_path / "my-crm")
    assert (done.returncode, "is a file" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1crm", "use letters, digits and hyphens"),
        ("my crm", "use letters, digits and hyphens"),
        ("my.crm", "use letters, digits and hyphens"),
        ("-crm-", "use letters, digits and hyphens"),
        ("größe", "use letters, digits and hyphens"),
        ("c" * 61, "use letters, digits and hyphens"),
        ("..", "use letters, digits and hyphens"),
        ("class", "a word of Python's language"),
        ("Email", "Python has a module 'email'"),
        ("tests", "the project has another folder 'tests'"),
        ("hubspot", "the project has another folder 'hubspot'"),
        ("redis", "a package 'redis' is installed here"),
        ("spokes", "Spokes has a package 'spokes'"),
        ("ingest", "Spokes has a package 'ingest'"),
        ("workers", "Spokes has a package 'workers'"),
    ],
)
def test_impossible_name_is_a_sentence(name: str, reason: str, tmp_path: Path) -> None:
    done = spokes({}, "new", "--", f"{tmp_path}/{name}")
    assert (done.returncode, reason in done.stderr, list(tmp_path.iterdir())) == (2, True, []), done.stderr
    assert "such as my-crm" in done.stderr
