"""Whatever a project holds, a second export changes nothing, and everything of others stays."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spokes.subscriptions.project.export import export_to_project
from spokes.subscriptions.project.json_document import JsonDocument
from spokes.subscriptions.project.project_files import HubSpotProject, ProjectFile, WrittenParts
from tests.subscriptions.desired import desired_of

NAMES = st.sampled_from(
    ["contact.creation", "contact.merge", "deal.propertyChange:amount", "ticket.restore", "contact.privacyDeletion"]
)
REGISTRATIONS = st.lists(NAMES, min_size=1, unique=True)
EXTRA = st.dictionaries(st.sampled_from(["note", "x", "ä"]), st.sampled_from([None, 1.50, "é\\", [1, {}]]), max_size=2)
ENTRIES = st.fixed_dictionaries(
    {"subscriptionType": st.sampled_from(["object.creation", "object.merge", "contact.restore", "later.kind"])},
    optional={"objectType": st.sampled_from(["contact", "COMPANY", "2-99"]), "active": st.booleans()},
).flatmap(lambda entry: EXTRA.map(lambda extra: {**extra, **entry}))
SECTIONS = st.dictionaries(
    st.sampled_from(["crmObjects", "legacyCrmObjects", "hubEvents", "later"]), st.lists(ENTRIES, max_size=3), max_size=4
)
SCOPES = st.lists(st.sampled_from(["oauth", "tickets", "crm.objects.deals.read"]), unique=True)
STYLES = st.sampled_from([{"indent": 2}, {"indent": 4}, {"indent": "\t"}, {"separators": (",", ":")}, {}])
NEWLINES = st.sampled_from(["\n", "\r\n"])


def file(name: str, content: dict[str, Any], style: dict[str, Any], newline: str) -> ProjectFile:
    text = json.dumps(content, ensure_ascii=False, **style).replace("\n", newline)
    return ProjectFile(name, JsonDocument(text, name), text)


def reread(project: HubSpotProject, texts: dict[str, str]) -> HubSpotProject:
    def read(old: ProjectFile) -> ProjectFile:
        text = texts.get(old.path, old.before)
        return ProjectFile(old.path, JsonDocument(text, old.path), text)

    ledger_text = texts.get("spokes-export.json", project.ledger_text)
    ledger = json.loads(ledger_text) if ledger_text else {}
    written = WrittenParts(frozenset(ledger.get("subscriptions", ())), frozenset(ledger.get("scopes", ())))
    return HubSpotProject(read(project.project), read(project.app), read(project.webhooks), written, ledger_text)


def foreign(webhooks: dict[str, Any], sections: dict[str, Any]) -> bool:
    """Return whether all entries that were there are still there, apart from their activation."""
    after = webhooks["config"].get("subscriptions", {})
    return all(
        {**entry, "active": None} in [{**each, "active": None} for each in after[name]]
        for name, entries in sections.items() for entry in entries
    )  # fmt: skip


@given(REGISTRATIONS, REGISTRATIONS, SECTIONS, SCOPES, EXTRA, STYLES, NEWLINES)
def test_second_export_is_empty_and_entries_of_others_stay(
    first: list[str],
    second: list[str],
    sections: dict[str, Any],
    scopes: list[str],
    extra: dict[str, Any],
    style: dict[str, Any],
    newline: str,
) -> None:
    webhooks = {**extra, "type": "webhooks", "config": {"subscriptions": sections, **extra}}
    app = {"type": "app", "config": {"auth": {"type": "static", "requiredScopes": scopes, **extra}}}
    project = HubSpotProject(
        file("hsproject.json", {"srcDir": "src"}, style, newline), file("app", app, style, newline),
        file("webhooks", webhooks, style, newline),
    )  # fmt: skip
    for registrations in (first, second):
        texts = dict(export_to_project(project, desired_of(*registrations)).texts)
        project = reread(project, texts)
        again = export_to_project(reread(project, {}), desired_of(*registrations))
        assert (again.changes, again.texts) == ((), {})
        content = json.loads(project.webhooks.before)
        assert foreign(content, sections)
        assert extra.items() <= content.items()
        assert set(scopes) <= set(json.loads(project.app.before)["config"]["auth"]["requiredScopes"])
