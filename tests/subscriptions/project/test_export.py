"""Exporting subscriptions and scopes into the files of a HubSpot project."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spokes.core.errors import ConfigurationError
from spokes.subscriptions.project.export import ProjectExport, export_to_project, write_export
from spokes.subscriptions.project.project_files import read_project
from spokes.subscriptions.subscribed_events import event_of_project_entry
from tests.subscriptions.desired import URL, desired_of

WEBHOOKS = "src/app/webhooks/webhooks-hsmeta.json"
APP = "src/app/app-hsmeta.json"
TARGET = f"{URL}/webhooks/hubspot"
FOREIGN = {"subscriptionType": "object.creation", "objectType": "lead", "active": False, "note": "of sales"}

REGISTRATIONS = st.sampled_from(
    [
        "contact.creation", "contact.propertyChange:email", "contact.propertyChange:phone", "contact.privacyDeletion",
        "company.merge", "deal.propertyChange:amount", "ticket.restore", "conversation.newMessage",
        "line_item.associationChange", "2-1234567.creation", "object.privacyDeletion",
    ]
)  # fmt: skip
ENTRIES = st.sampled_from(
    [
        FOREIGN,
        {"subscriptionType": "contact.creation", "active": True},
        {"active": False, "subscriptionType": "object.merge", "objectType": "COMPANY"},
        {"subscriptionType": "object.propertyChange", "objectName": "contact", "propertyName": "email"},
        {"subscriptionType": "contact.propertyChange", "propertyName": "lastname", "active": False},
        {"subscriptionType": "contact.privacyDeletion", "active": True},
        {"subscriptionType": "something.new", "active": True, "shape": {"unknown": [1, 2]}},
        {"of": "another version"},
        "text",
    ]
)


def export(folder: Path, *registrations: str, redirect_urls: tuple[str, ...] = (), **declared: Any) -> ProjectExport:
    """Export the needs of one handler into a folder, and return what changed."""
    project = read_project(folder, name="my-crm", auth="static")
    result = export_to_project(project, desired_of(*registrations, **declared), redirect_urls=redirect_urls)
    write_export(folder, result)
    return result


def write(folder: Path, path: str, content: Mapping[str, Any], **style: Any) -> str:
    """Write a file of the project and return its text."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, **{"indent": 2, **style}), newline="")
    return file.read_text()


def webhooks_of(*entries: object, section: str = "crmObjects", **config: Any) -> dict[str, Any]:
    config = {"settings": {"targetUrl": TARGET, "maxConcurrentRequests": 10}, **config}
    return {"uid": "hooks", "type": "webhooks", "config": {**config, "subscriptions": {section: list(entries)}}}


def app_of(*scopes: str, **auth: Any) -> dict[str, Any]:
    auth = {"type": "static", "requiredScopes": list(scopes), **auth}
    return {"uid": "app", "type": "app", "config": {"name": "CRM", "auth": auth}}


def read(folder: Path, path: str = WEBHOOKS) -> Any:
    return json.loads((folder / path).read_text())["config"]


def subscribed(folder: Path) -> list[str]:
    entries = [entry for section in read(folder)["subscriptions"].values() for entry in section]
    return sorted(str(event_of_project_entry(entry)) for entry in entries)


def test_new_project_has_app_subscriptions_and_settings(tmp_path: Path) -> None:
    export(tmp_path, "contact.creation", "contact.privacyDeletion", may=("contacts.update",))
    assert json.loads((tmp_path / "hsproject.json").read_text()) == {
        "name": "my-crm",
        "srcDir": "src",
        "platformVersion": "2026.03",
    }
    config = read(tmp_path)
    assert config["settings"] == {"targetUrl": TARGET, "maxConcurrentRequests": 10}
    assert config["subscriptions"] == {
        "crmObjects": [{"subscriptionType": "object.creation", "objectType": "contact", "active": True}],
        "legacyCrmObjects": [],
        "hubEvents": [{"subscriptionType": "contact.privacyDeletion", "active": True}],
    }
    assert read(tmp_path, APP)["auth"]["requiredScopes"] == ["crm.objects.contacts.read", "crm.objects.contacts.write"]


def test_second_export_changes_nothing(tmp_path: Path) -> None:
    export(tmp_path, "contact.creation", "2-1234567.propertyChange:colour")
    again = export(tmp_path, "contact.creation", "2-1234567.propertyChange:colour")
    assert (again.changes, again.texts) == ((), {})


def test_custom_type_is_subscribed_by_its_id(tmp_path: Path) -> None:
    export(tmp_path, "2-1234567.propertyChange:colour")
    assert read(tmp_path)["subscriptions"]["crmObjects"] == [
        {
            "subscriptionType": "object.propertyChange",
            "objectType": "2-1234567",
            "propertyName": "colour",
            "active": True,
        }
    ]


def test_components_are_found_by_their_type_in_the_folder_of_sources(tmp_path: Path) -> None:
    write(tmp_path, "hsproject.json", {"name": "x", "srcDir": "source", "platformVersion": "2026.09"})
    write(tmp_path, "source/app/main-hsmeta.json", app_of())
    write(tmp_path, "source/app/hooks/our-hsmeta.json", webhooks_of())
    write(tmp_path, "source/app/cards/card-hsmeta.json", {"uid": "card", "type": "card", "config": {}})
    result = export(tmp_path, "deal.creation")
    assert {*result.texts} == {"source/app/main-hsmeta.json", "source/app/hooks/our-hsmeta.json", "spokes-export.json"}


@pytest.mark.parametrize("section", ["crmObjects", "legacyCrmObjects"])
def test_subscription_in_either_dialect_is_not_added_again(tmp_path: Path, section: str) -> None:
    entry = {"subscriptionType": "contact.creation", "active": True}
    if section == "crmObjects":
        entry = {"subscriptionType": "object.creation", "objectType": "contact", "active": True}
    before = write(tmp_path, WEBHOOKS, webhooks_of(entry, section=section))
    export(tmp_path, "contact.creation")
    assert (tmp_path / WEBHOOKS).read_text() == before


def test_inactive_subscription_that_handlers_need_is_activated(tmp_path: Path) -> None:
    write(tmp_path, WEBHOOKS, webhooks_of({"subscriptionType": "deal.merge", "active": False}, FOREIGN))
    result = export(tmp_path, "deal.merge")
    assert read(tmp_path)["subscriptions"]["crmObjects"] == [
        {"subscriptionType": "deal.merge", "active": True},
        FOREIGN,
    ]
    assert next(f"{change.sign} {change.subject}" for change in result.changes) == "~ deal.merge active"


def test_removed_registration_takes_its_subscription_and_scopes_away(tmp_path: Path) -> None:
    write(tmp_path, WEBHOOKS, webhooks_of(FOREIGN))
    write(tmp_path, APP, app_of("crm.objects.leads.read"))
    before = {path: (tmp_path / path).read_text() for path in (WEBHOOKS, APP)}
    export(tmp_path, "contact.creation", "deal.creation", may=("deals.update",))
    export(tmp_path, "contact.creation")
    assert subscribed(tmp_path) == ["contact.creation", "lead.creation"]
    assert read(tmp_path, APP)["auth"]["requiredScopes"] == ["crm.objects.leads.read", "crm.objects.contacts.read"]
    export(tmp_path, "lead.creation")
    assert {
        path: (tmp_path / path).read_text().replace('"active": true', '"active": false') for path in before
    } == before
    assert not (tmp_path / "spokes-export.json").exists()


def test_subscription_that_was_there_before_stays_when_no_handler_needs_it(tmp_path: Path) -> None:
    write(tmp_path, WEBHOOKS, webhooks_of({"subscriptionType": "contact.creation", "active": True}))
    export(tmp_path, "contact.creation")
    export(tmp_path, "deal.creation")
    assert subscribed(tmp_path) == ["contact.creation", "deal.creation"]


def test_scope_that_is_optional_or_has_its_older_name_is_not_added(tmp_path: Path) -> None:
    write(tmp_path, APP, app_of("tickets", optionalScopes=["crm.objects.deals.read"]))
    export(tmp_path, "ticket.creation", "deal.creation")
    assert read(tmp_path, APP)["auth"]["requiredScopes"] == ["tickets"]


def test_reason_of_a_scope_is_shown(tmp_path: Path) -> None:
    result = export(tmp_path, "deal.creation", may=("deals.update",))
    (reason,) = next(change.reasons for change in result.changes if change.subject == "crm.objects.deals.write")
    assert reason.startswith("deals.update in tests/subscriptions/desired.py:")


def test_target_without_public_url_stays(tmp_path: Path) -> None:
    write(tmp_path, WEBHOOKS, webhooks_of())
    export(tmp_path, "deal.creation", public_url="")
    assert read(tmp_path)["settings"]["targetUrl"] == TARGET


def test_new_project_without_public_url_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Set PUBLIC_URL"):
        export(tmp_path, "deal.creation", public_url="")
    assert list(tmp_path.iterdir()) == []


def test_last_years_host_is_replaced_and_shown(tmp_path: Path) -> None:
    settings_ = {"targetUrl": "https://old.example.com/webhooks/hubspot", "maxConcurrentRequests": 25, "other": 1}
    write(tmp_path, WEBHOOKS, webhooks_of(settings=settings_))
    result = export(tmp_path, "deal.creation")
    assert read(tmp_path)["settings"] == {"targetUrl": TARGET, "maxConcurrentRequests": 25, "other": 1}
    assert '-      "targetUrl": "https://old.example.com/webhooks/hubspot"' in result.diff()


@pytest.mark.parametrize(
    ("in_file", "set_to", "after"), [(25, None, 25), (25, 40, 40), (25, 10, 10), (None, None, 10), (None, 40, 40)]
)
def test_limit_of_requests_in_the_file_yields_only_to_a_setting(
    tmp_path: Path, in_file: int | None, set_to: int | None, after: int
) -> None:
    limit = {"maxConcurrentRequests": in_file} if in_file else {}
    write(tmp_path, WEBHOOKS, webhooks_of(settings={"targetUrl": TARGET, **limit}))
    export(tmp_path, "deal.creation", max_concurrent_requests=set_to)
    assert read(tmp_path)["settings"]["maxConcurrentRequests"] == after
    assert export(tmp_path, "deal.creation", max_concurrent_requests=set_to).texts == {}


def test_fields_of_an_app_that_settings_name_for_new_apps_only_stay(tmp_path: Path) -> None:
    export(tmp_path, "deal.creation")
    files = {path: json.loads((tmp_path / path).read_text()) for path in ("hsproject.json", APP)}
    files["hsproject.json"] |= {"name": "theirs", "platformVersion": "2025.2"}
    files[APP]["config"] |= {"name": "theirs", "description": "theirs", "distribution": "marketplace"}
    files[APP]["config"]["auth"] |= {"type": "oauth", "redirectUrls": ["https://theirs.example.com/oauth"]}
    for path, content in files.items():
        write(tmp_path, path, content)
    export(tmp_path, "deal.creation", "contact.creation")
    assert json.loads((tmp_path / "hsproject.json").read_text()) == files["hsproject.json"]
    config = json.loads((tmp_path / APP).read_text())["config"]
    assert config["auth"].pop("requiredScopes") != files[APP]["config"]["auth"].pop("requiredScopes")
    assert config == files[APP]["config"]


def test_oauth_app_gets_its_redirect_urls(tmp_path: Path) -> None:
    project = read_project(tmp_path, name="my-crm", auth="oauth")
    desired = desired_of("deal.creation")
    with pytest.raises(ConfigurationError, match="--redirect-url"):
        export_to_project(project, desired)
    project = read_project(tmp_path, name="my-crm", auth="oauth")
    write_export(tmp_path, export_to_project(project, desired, redirect_urls=[f"{URL}/oauth"]))
    auth = read(tmp_path, APP)["auth"]
    assert (auth["type"], auth["redirectUrls"]) == ("oauth", [f"{URL}/oauth"])
    export(tmp_path, "deal.creation", redirect_urls=(f"{URL}/oauth", f"{URL}/second"))
    assert read(tmp_path, APP)["auth"]["redirectUrls"] == [f"{URL}/oauth", f"{URL}/second"]


def test_redirect_url_of_an_app_without_oauth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not oauth"):
        export(tmp_path, "deal.creation", redirect_urls=(URL,))


def test_two_webhooks_components_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "src/app/webhooks/a-hsmeta.json", webhooks_of())
    write(tmp_path, "src/app/webhooks/b-hsmeta.json", webhooks_of())
    with pytest.raises(ConfigurationError, match=r"a-hsmeta\.json and src/app/webhooks/b-hsmeta\.json"):
        export(tmp_path, "deal.creation")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (WEBHOOKS, {"type": "webhooks", "config": {"settings": [], "subscriptions": {}}}),
        (WEBHOOKS, {"type": "webhooks", "config": {"subscriptions": {"crmObjects": {}}}}),
        (WEBHOOKS, {"type": "webhooks", "config": []}),
        (APP, {"type": "app", "config": {"auth": {"requiredScopes": "oauth"}}}),
        ("hsproject.json", {"srcDir": "../other"}),
        ("hsproject.json", {"srcDir": 5}),
        ("spokes-export.json", {"subscriptions": "all"}),
    ],
)
def test_file_of_another_form_is_refused_by_name(tmp_path: Path, path: str, content: dict[str, Any]) -> None:
    before = write(tmp_path, path, content)
    with pytest.raises(ConfigurationError, match=Path(path).name.replace(".", r"\.")):
        export(tmp_path, "deal.creation")
    assert (tmp_path / path).read_text() == before


def test_more_subscriptions_than_hubspot_allows_are_refused(tmp_path: Path) -> None:
    foreign = ({"subscriptionType": "contact.propertyChange", "propertyName": f"p{number}"} for number in range(1000))
    write(tmp_path, WEBHOOKS, webhooks_of(*foreign))
    with pytest.raises(ConfigurationError, match="1001 subscriptions"):
        export(tmp_path, "deal.creation")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    entries=st.lists(ENTRIES, max_size=5),
    section=st.sampled_from(["crmObjects", "legacyCrmObjects", "hubEvents"]),
    indent=st.sampled_from([None, 2, 4, "\t"]),
    first=st.lists(REGISTRATIONS, min_size=1, max_size=6, unique=True),
    second=st.lists(REGISTRATIONS, min_size=1, max_size=6, unique=True),
)
def test_exports_are_complete_and_idempotent_and_keep_what_is_foreign(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[object],
    section: str,
    indent: int | str | None,
    first: list[str],
    second: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("project")
    unknown = {"name": "unknown", "values": [1.0, None, "ü"]}
    write(folder, WEBHOOKS, {**webhooks_of(*entries, section=section), "unknown": unknown}, indent=indent)
    write(folder, APP, {"other": unknown, **app_of("crm.objects.leads.read")}, indent=indent)
    for registrations in (first, second):
        export(folder, *registrations)
        assert export(folder, *registrations).texts == {}
        config = read(folder)["subscriptions"]
        active = [
            entry for part in config.values() for entry in part if isinstance(entry, dict) and entry.get("active")
        ]
        events = {str(event_of_project_entry(entry)) for entry in active}
        assert {str(event) for event in desired_of(*registrations).events} <= events
        assert list(map(without_active, config[section][: len(entries)])) == list(map(without_active, entries))
        assert json.loads((folder / WEBHOOKS).read_text())["unknown"] == unknown
        assert next(iter(json.loads((folder / APP).read_text()))) == "other"
        assert read(folder, APP)["auth"]["requiredScopes"][0] == "crm.objects.leads.read"


def without_active(entry: object) -> object:
    return {key: value for key, value in entry.items() if key != "active"} if isinstance(entry, dict) else entry
