"""`spokes up --reload`: the processes that load handlers restart when a file of the handlers changes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from spokes.console.local.handler_needs import handler_needs, parse_needs
from spokes.console.local.reloading import WatchedPlace, watched_place
from spokes.routing import load_router
from tests.console.commands.test_up import run_in, wait_for_line
from tests.support.command_line import spokes, start_spokes_in

HANDLER = """
from spokes import Event, Router, Tools
ROUTER = Router()
@ROUTER.register("{event_type}")
async def seen(event: Event, tools: Tools) -> None: ...
"""


def test_outermost_package_of_the_handlers_is_watched(tmp_path: Path) -> None:
    (tmp_path / "my_crm" / "handlers").mkdir(parents=True)
    assert watched_place("my_crm.handlers", tmp_path) == WatchedPlace(tmp_path / "my_crm")


def test_single_file_is_watched_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "my_handlers.py").touch()
    assert watched_place("my_handlers", tmp_path) == WatchedPlace(tmp_path, "my_handlers.py")


def test_folder_is_watched_while_there_are_no_handlers(tmp_path: Path) -> None:
    assert watched_place("handlers_19", tmp_path) == WatchedPlace(tmp_path)


@pytest.mark.slow
def test_changed_handlers_run_and_faulty_ones_do_not(tmp_path: Path) -> None:
    handlers = tmp_path / "my_handlers.py"
    handlers.write_text(HANDLER.format(event_type="contact.creation"))
    environ = {"HANDLERS": "my_handlers", "PORT": "0", "DATA_DIR": str(tmp_path / "data")}
    up = start_spokes_in(tmp_path, environ, "up", "--reload", "--traffic", "0")
    try:
        wait_for_line(up, "The console:")
        ignored = send(tmp_path, "deal.creation")
        handlers.write_text(HANDLER.format(event_type="deal.creation"))
        assert "my_handlers.py changed: restarting" in wait_for_line(up, "my_handlers.py changed")
        assert "that the handlers need now" in wait_for_line(up, "The simulated HubSpot app")
        assert "worker_ready" in wait_for_line(up, "worker_ready")
        processed = send(tmp_path, "deal.creation", "--wait", "30")
        environ = {"PATH": os.environ["PATH"], "HANDLERS": "my_handlers"}
        findings = run_in(tmp_path, "doctor", "--json", "--all", **environ).stdout
        handlers.write_text(HANDLER.format(event_type="deals.creation"))
        assert "Did you mean 'deal.creation'?" in wait_for_line(up, "Did you mean")
        assert "the handlers of before keep running" in wait_for_line(up, "my_handlers.py changed")
        kept = send(tmp_path, "deal.creation", "--wait", "30")
    finally:
        up.terminate()
        output, _ = up.communicate(timeout=90)
    assert up.returncode == 0, output
    assert excess(findings) == []
    assert json.loads(ignored.stdout)["ignored"] == 1
    assert [json.loads(sent.stdout.splitlines()[1])["outcome"] for sent in (processed, kept)] == ["processed"] * 2


def test_needs_that_the_command_prints_are_those_of_the_router(tmp_path: Path) -> None:
    printed = spokes({}, "handlers", "--json").stdout
    assert parse_needs(printed) == handler_needs(load_router("handlers"))


def excess(findings: str) -> list[str]:
    """Return what doctor says about scopes and events that no handler needs."""
    sentences = [finding["sentence"] for finding in map(json.loads, findings.splitlines()) if finding["level"] != "ok"]
    return [each for each in sentences if "scope" in each or "subscri" in each or "no handler" in each]


def send(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_in(folder, "send", *arguments, "--json", PATH=os.environ["PATH"])
