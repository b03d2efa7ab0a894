"""`doctor` names what this deployment uses and HubSpot ends."""

import json
from datetime import date
from pathlib import Path

import pytest

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.subscriptions.deadlines_check import (
    assess_deadlines,
    check_deadlines,
    deployment_uses,
    project_uses,
)
from spokes.core.settings import Settings
from spokes.subscriptions.deadlines import Use, UseKind

OAUTH_V1 = Use(UseKind.PATH, "/oauth/v1/token", "deals.py:3")


@pytest.mark.parametrize(
    ("today", "level", "part"),
    [
        (date(2026, 8, 19), FindingLevel.INFO, "181 days left"),
        (date(2026, 8, 20), FindingLevel.WARNING, "180 days left"),
        (date(2027, 2, 16), FindingLevel.WARNING, "0 days left"),
        (date(2027, 2, 17), FindingLevel.FAULT, "switched it off on 2027-02-16 (1 day ago)"),
    ],
)
def test_warning_begins_half_a_year_before_the_end(today: date, level: FindingLevel, part: str) -> None:
    [finding] = assess_deadlines([OAUTH_V1], today)
    assert (finding.level, part in finding.sentence, "/oauth/v1/token (deals.py:3)" in finding.sentence) == (
        level,
        True,
        True,
    ), finding


def test_end_of_support_is_no_fault_because_calls_may_go_on() -> None:
    [finding] = assess_deadlines([Use(UseKind.PATH, "/crm/v3/objects", "here")], date(2028, 1, 1))
    assert (finding.level, "ended its support in September 2027" in finding.sentence) == (FindingLevel.WARNING, True)


def test_deployment_without_an_end_in_sight_is_ok() -> None:
    [finding] = assess_deadlines([], date(2026, 11, 30))
    assert finding.level is FindingLevel.OK


def test_version_decides_which_paths_spokes_calls(environ: dict[str, str]) -> None:
    names = {use.name for use in deployment_uses(Settings.from_env({**environ, "HUBSPOT_API_VERSION": "v3"}))}
    assert {"/crm/v3/objects/contacts", "/crm/v4/objects/contacts/id/associations"} <= names
    names = {use.name for use in deployment_uses(Settings.from_env({**environ, "HUBSPOT_DEVELOPER_API_KEY": "key"}))}
    assert {"/crm/objects/2026-09/contacts", "/app-webhooks/2026-09", "legacy public app"} <= names
    assert not any("/v3/" in name or "/v4/" in name for name in names)


def test_project_names_its_platform_and_whether_its_app_is_listed(tmp_path: Path) -> None:
    assert list(project_uses(tmp_path)) == []
    (tmp_path / "hsproject.json").write_text(json.dumps({"srcDir": "src", "platformVersion": "2025.1"}))
    assert [use.subject for use in project_uses(tmp_path)] == [UseKind.PLATFORM]
    (tmp_path / "src").mkdir()
    app = {"type": "app", "config": {"distribution": "marketplace"}}
    (tmp_path / "src/app-hsmeta.json").write_text(json.dumps(app))
    assert [use.name for use in project_uses(tmp_path)] == ["2025.1", "2025.1"]


async def test_broken_project_file_is_a_finding(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hubspot").mkdir()
    (tmp_path / "hubspot/hsproject.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    [finding] = await check_deadlines(settings)
    assert (finding.level, "hsproject.json:1" in finding.sentence) == (FindingLevel.WARNING, True)
