"""`subscriptions export`."""

import json
import re
import stat
from pathlib import Path

import pytest

from tests.support.command_line import CompletedCommand, spokes
from tests.support.deployment import ROOT

ENVIRON = {"PUBLIC_URL": "https://hooks.example.com"}


@pytest.fixture(autouse=True)
def _in_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each command in a folder that has the handlers of this repository."""
    (tmp_path / "handlers").symlink_to(ROOT / "handlers")
    monkeypatch.chdir(tmp_path)


def export(*arguments: str) -> CompletedCommand:
    return spokes(ENVIRON, "subscriptions", "export", *arguments)


def test_files_are_written_and_their_differences_shown(tmp_path: Path) -> None:
    done = export("--to", "hubspot/")
    assert done.returncode == 0, done.stderr
    assert '+      "targetUrl": "https://hooks.example.com/webhooks/hubspot",\n' in done.stdout
    assert re.search(
        r"^\+ crm\.objects\.companies\.write: companies\.update in .*companies\.py:\d+$", done.stdout, re.MULTILINE
    )
    assert "written in hubspot" in done.stderr
    assert (tmp_path / "hubspot/src/app/webhooks/webhooks-hsmeta.json").stat().st_mode & stat.S_IROTH


def test_check_is_negative_until_the_files_are_written(tmp_path: Path) -> None:
    done = export("--check")
    assert (done.returncode, "to be changed" in done.stderr, (tmp_path / "hubspot").exists()) == (1, True, False)
    assert export().returncode == 0
    assert (export("--check").returncode, export("--check").stdout) == (0, "hubspot has all that the handlers need.\n")


def test_address_of_a_running_up_leaves_the_target_url_of_the_project(tmp_path: Path) -> None:
    environ = {"PUBLIC_URL": "http://127.0.0.1:8080"}
    first = spokes(environ, "subscriptions", "export")
    assert (first.returncode, "has no targetUrl yet" in first.stderr) == (2, True)
    assert export().returncode == 0
    done = spokes(environ, "subscriptions", "export", "--check")
    assert (done.returncode, "an address of this machine" in done.stderr) == (0, True)
    webhooks = json.loads((tmp_path / "hubspot/src/app/webhooks/webhooks-hsmeta.json").read_text())
    assert webhooks["config"]["settings"]["targetUrl"] == "https://hooks.example.com/webhooks/hubspot"


def test_changes_are_one_json_object_a_line() -> None:
    lines = [json.loads(line) for line in export("--json").stdout.splitlines()]
    assert {"change": "+", "subject": "maxConcurrentRequests 10", "reasons": []} in lines
    assert export("--json").stdout == ""


def test_setting_limits_the_requests_in_flight(tmp_path: Path) -> None:
    spokes({**ENVIRON, "HUBSPOT_MAX_CONCURRENT_REQUESTS": "20"}, "subscriptions", "export")
    webhooks = json.loads((tmp_path / "hubspot/src/app/webhooks/webhooks-hsmeta.json").read_text())
    assert webhooks["config"]["settings"]["maxConcurrentRequests"] == 20
    done = spokes({**ENVIRON, "HUBSPOT_MAX_CONCURRENT_REQUESTS": "5"}, "subscriptions", "export")
    assert (done.returncode, "HUBSPOT_MAX_CONCURRENT_REQUESTS" in done.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [("--auth", "oauth"), ("--redirect-url", "https://hooks.example.com/oauth")])
def test_incomplete_oauth_is_a_sentence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = export(*arguments)
    assert (done.returncode, "--redirect-url" in done.stderr, (tmp_path / "hubspot").exists()) == (2, True, False)


def test_redirect_url_without_tls_is_refused() -> None:
    assert export("--auth", "oauth", "--redirect-url", "http://hooks.example.com").returncode == 2


def test_registration_without_subscription_is_named(tmp_path: Path) -> None:
    package = tmp_path / "all_changes"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from spokes import Event, Router, Tools\n\nROUTER = Router()\n\n\n"
        '@ROUTER.register("contact.propertyChange")\n'
        "async def follow(event: Event, tools: Tools) -> None: ...\n"
    )
    done = spokes({**ENVIRON, "HANDLERS": "all_changes"}, "subscriptions", "export")
    assert "all_changes/__init__.py:6: all_changes.follow registers for contact.propertyChange" in done.stderr
