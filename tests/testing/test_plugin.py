"""The plugin in a project of somebody else: with and without pytest-asyncio, and tests that fail with one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

pytestmark = pytest.mark.slow  # each test starts processes

HANDLERS = """
import asyncio
from spokes import Event, Router, Tools, uses

ROUTER = Router()

@ROUTER.register("contact.creation")
@uses(may=("contacts.update",))
async def greet(event: Event, tools: Tools) -> None:
    await tools.crm.contacts.update(event.object_id, jobtitle="greeted")

@ROUTER.register("contact.restore")
@uses(reads={"contacts": ("email",)})
async def look(event: Event, tools: Tools) -> None:
    asyncio.create_task(tools.crm.contacts.get(event.object_id))

@ROUTER.register("contact.deletion")
async def forget(event: Event, tools: Tools) -> None:
    asyncio.create_task(asyncio.sleep(3600))
"""
HANDLERS += """
@ROUTER.register("contact.propertyChange", property="city")
@uses(reads={"contacts": ("email",)}, may=("contacts.update",))
async def forget_await(event: Event, tools: Tools) -> None:
    contact = await tools.crm.contacts.get(event.object_id)
    tools.crm.contacts.update(contact.id, jobtitle="greeted")
"""
PACKAGES = {
    "my_crm.handlers": HANDLERS,
    "unimportable": "import nowhere",
    "without_router": "ROUTER = 1",
    "misspelt": HANDLERS.replace("contact.deletion", "contact.deleted"),
}
TESTS = """
import asyncio
import pytest

async def test_greeting(spokes):
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    run = await spokes.deliver("contact.creation", ada)
    assert run.writes == [("contacts", ada.id, {"jobtitle": "greeted"})]

class TestInAClass:
    async def test_greeting(self, spokes):
        ada = await spokes.hubspot.contacts.create(email="ada@example.com")
        assert (await spokes.deliver("contact.creation", ada)).outcome == "processed"

async def test_handler_leaves_a_task(spokes):
    await spokes.deliver("contact.deletion", await spokes.hubspot.contacts.create())

async def test_handler_leaves_a_call(spokes):
    await spokes.deliver("contact.restore", await spokes.hubspot.contacts.create(email="ada@example.com"))

async def test_handler_forgets_await(spokes):
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    run = await spokes.deliver("contact.propertyChange", ada, property="city", value="Oslo")
    assert (run.outcome, run.writes) == ("processed", [])

async def test_misses_what_is_not_awaited(spokes):
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    run = await spokes.deliver("contact.propertyChange", ada, property="city", value="Oslo")
    assert run.writes == [("contacts", ada.id, {"jobtitle": "greeted"})]

async def test_leaves_a_task(spokes):
    asyncio.create_task(asyncio.sleep(3600))

async def ignore_cancellation():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def test_leaves_a_stubborn_task(spokes):
    asyncio.create_task(ignore_cancellation())
    await asyncio.sleep(0)

async def test_fails_beside_a_stubborn_task(spokes):
    asyncio.create_task(ignore_cancellation())
    await asyncio.sleep(0)
    assert len(spokes.hubspot.contacts) == 2

async def test_fails(spokes):
    assert len(spokes.hubspot.contacts) == 1

class TestUnloadable:
    @pytest.fixture(params=["unimportable", "without_router", "misspelt", "missing"])
    def spokes_handlers(self, request):
        return request.param

    async def test_nothing(self, spokes):
        pass
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with handlers in my_crm/handlers, and other packages that cannot be loaded."""
    folder = tmp_path_factory.mktemp("project")
    for package, content in PACKAGES.items():
        path = folder.joinpath(*package.split("."))
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(content)
    (folder / "pyproject.toml").write_text('[tool.spokes]\nhandlers = "my_crm.handlers"\n')
    (folder / "test_greeting.py").write_text(TESTS)
    return folder


def run_pytest(project: Path, *options: str) -> str:
    """Run pytest there; return what it prints."""
    command = [sys.executable, "-m", "pytest", "-p", "spokes.testing.plugin", "-p", "no:cacheprovider", "-q", *options]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False, timeout=90)
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["-p no:asyncio -p no:anyio -p no:xdist", "", "-o asyncio_mode=auto -n 1"])
def printed(project: Path, request: pytest.FixtureRequest) -> str:
    """Return what pytest prints there: plain, with pytest-asyncio as installed, and with its auto mode and xdist."""
    return run_pytest(project, *request.param.split())


def test_coroutine_tests_run_and_others_fail(printed: str) -> None:
    assert "12 failed, 2 passed" in printed


def test_task_that_a_handler_leaves_behind_fails_the_test(printed: str) -> None:
    assert "handlers.forget has left the task sleep (" in printed
    assert "handlers.look has left the call contacts.get of tools behind: await it" in printed
    assert "FAILED test_greeting.py::test_handler_leaves_a_task" in printed


def test_call_without_await_is_named_with_its_line(printed: str) -> None:
    failures = printed.partition("short test summary info")[0]
    line = HANDLERS.splitlines().index('    tools.crm.contacts.update(contact.id, jobtitle="greeted")') + 1
    sentence = (
        f"handlers.forget_await calls contacts.update without await (my_crm/handlers/__init__.py:{line}), "
        "so the call does nothing: write await before it."
    )
    assert failures.count(sentence) == 2  # also beside the assertion that fails because of it
    assert "Recorder._awaited" not in printed


def test_task_that_a_test_leaves_behind_fails_it(printed: str) -> None:
    assert "The test has left the task sleep (" in printed
    assert "FAILED test_greeting.py::test_leaves_a_task" in printed


def test_task_that_ignores_its_cancellation_fails_its_test_and_keeps_nothing_from_ending(printed: str) -> None:
    sentence = "await it before the test ends. It ignores its cancellation: the task ignore_cancellation ("
    failures = printed.partition("short test summary info")[0]  # which repeats whole messages where CI is set
    assert failures.count(sentence) == 2
    assert "assert 0 == 2" in printed


def test_handlers_that_cannot_be_loaded_fail_the_test_with_a_sentence(printed: str) -> None:
    for sentence in (
        "HANDLERS names 'unimportable', whose import raises ModuleNotFoundError",
        "HANDLERS names 'without_router', which has no ROUTER of type Router",
        "contact.deleted",
        "HANDLERS names 'missing', and there is no such package.",
    ):
        assert sentence in printed
    assert "Traceback" not in printed


def test_package_of_the_ini_option_comes_first(project: Path) -> None:
    printed = run_pytest(project, "-o", "spokes_handlers=missing", "test_greeting.py::test_leaves_a_task")
    assert "HANDLERS names 'missing'" in printed


def test_fakeredis_takes_the_place_of_valkey(project: Path) -> None:
    printed = run_pytest(project, "-o", "spokes_redis=fakeredis", "test_greeting.py::test_greeting")
    assert "1 passed" in printed


def test_missing_setting_of_the_handlers_says_where_tests_set_it(project: Path) -> None:
    (project / "unset").mkdir()
    (project / "unset" / "__init__.py").write_text(
        "from spokes import HandlerSettings, Router\nclass Erp(HandlerSettings):\n    erp_key: str\nROUTER = Router()\n"
    )
    printed = run_pytest(project, "-o", "spokes_handlers=unset", "test_greeting.py::test_leaves_a_task")
    assert "ERP_KEY is not set: Erp needs it (class in " in printed
    assert "a fixture spokes_settings in tests/conftest.py" in printed


def test_package_called_like_one_of_ours_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    (tmp_path / "test_greeting.py").write_text("from spokes.testing import Spokes\n")
    printed = run_pytest(tmp_path)
    assert "ERROR: workers: Spokes has a package 'workers' too, so this one could not be imported." in printed
    assert "Traceback" not in printed


def test_unknown_redis_is_refused_with_a_sentence(project: Path) -> None:
    printed = run_pytest(project, "-o", "spokes_redis=sqlite", "test_greeting.py::test_leaves_a_task")
    assert "spokes_redis is 'sqlite': write one of valkey, fakeredis." in printed
