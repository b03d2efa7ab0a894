"""The simulator's check of project files, and that it accepts what `subscriptions export` writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spokes.simulator.project_files import project_faults
from tests.support.command_line import spokes
from tests.support.deployment import ROOT


class Files(NamedTuple):
    """The content of the project's files."""

    project: dict[str, Any]
    app: dict[str, Any]
    webhooks: dict[str, Any]


Change = Callable[[Files], object]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that an export has written for the handlers of this repository."""
    (tmp_path / "handlers").symlink_to(ROOT / "handlers")
    monkeypatch.chdir(tmp_path)
    assert export("static") == 0
    return tmp_path / "hubspot"


def export(auth: str, folder: str = "hubspot") -> int:
    options = ("--redirect-url", "https://hooks.example.com/oauth/callback") if auth == "oauth" else ()
    environ = {"PUBLIC_URL": "https://hooks.example.com"}
    return spokes(environ, "subscriptions", "export", "--to", folder, "--auth", auth, *options).returncode


def test_export_of_a_static_and_of_an_oauth_app_is_accepted(project: Path) -> None:
    assert project_faults(project) == []
    assert export("oauth", "other") == 0
    assert project_faults(project.parent / "other") == []


def first(webhooks: dict[str, Any], section: str = "crmObjects") -> dict[str, Any]:
    entry: dict[str, Any] = webhooks["config"]["subscriptions"][section][0]
    return entry


CHANGES: dict[str, Change] = {
    "platformVersion 2025.1": lambda files: files.project.update(platformVersion="2025.1"),
    "no name": lambda files: files.project.pop("name"),
    "uid": lambda files: files.app.update(uid="x" * 65),
    "auth.type": lambda files: files.app["config"]["auth"].update(type="apiKey"),
    "auth.redirectUrls": lambda files: files.app["config"]["auth"].update(type="oauth", redirectUrls=[]),
    "auth.requiredScopes": lambda files: files.app["config"]["auth"].update(requiredScopes="oauth"),
    "distribution": lambda files: files.app["config"].update(distribution="public"),
    "settings.targetUrl": lambda files: files.webhooks["config"]["settings"].update(targetUrl="http://a"),
    "settings.maxConcurrentRequests": lambda files: files.webhooks["config"]["settings"].update(
        maxConcurrentRequests=5
    ),
    "crmObjects: active": lambda files: first(files.webhooks).pop("active"),
    "crmObjects: objectType": lambda files: first(files.webhooks).pop("objectType"),
    "crmObjects: subscriptionType": lambda files: first(files.webhooks).update(subscriptionType="object.new"),
    "crmObjects: section": lambda files: first(files.webhooks).update(subscriptionType="contact.creation"),
    "crmObjects: propertyName": lambda files: first(files.webhooks).update(
        subscriptionType="object.propertyChange", propertyName=""
    ),
    "hubEvents: section": lambda files: first(files.webhooks, "hubEvents").update(subscriptionType="contact.creation"),
    "crmObjects: twice": lambda files: files.webhooks["config"]["subscriptions"]["crmObjects"].append(
        first(files.webhooks)
    ),
    "0 components of type webhooks": lambda files: files.webhooks.update(type="card"),
}


@pytest.mark.parametrize("fault", CHANGES)
def test_form_that_hubspot_does_not_know_is_a_fault(project: Path, fault: str) -> None:
    files = [project / name for name in (
        "hsproject.json", "src/app/app-hsmeta.json", "src/app/webhooks/webhooks-hsmeta.json",
    )]  # fmt: skip
    contents = [json.loads(file.read_text()) for file in files]
    CHANGES[fault](Files(*contents))
    for file, content in zip(files, contents, strict=True):
        file.write_text(json.dumps(content))
    faults = project_faults(project)
    assert any(fault in each for each in faults), faults
