"""Bring the files of a HubSpot project to the desired state.

An export adds what is missing, activates what is inactive, and removes what an earlier export added and nothing needs
any more. It changes nothing else.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spokes.core.errors import ConfigurationError
from spokes.subscriptions.desired_state import MAX_SUBSCRIPTIONS, DesiredState, missing_scopes
from spokes.subscriptions.project.json_document import JsonDocument
from spokes.subscriptions.project.project_files import LEDGER, HubSpotProject, WrittenParts
from spokes.subscriptions.subscribed_events import (
    SECTIONS,
    SubscribedEvent,
    event_of_project_entry,
    project_entry,
)

_AUTH: Final = ("config", "auth")
_REQUIRED: Final = (*_AUTH, "requiredScopes")
_SCOPE_LISTS: Final = ("requiredScopes", "optionalScopes", "conditionallyRequiredScopes")
_SETTINGS: Final = ("config", "settings")
_SUBSCRIPTIONS: Final = ("config", "subscriptions")


@dataclass(frozen=True, slots=True)
class ProjectChange:
    """One change of an export: `+`, `-` or `~`, its subject, and why."""

    sign: str
    subject: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProjectExport:
    """The result of an export: the changes for people, and the new text of each file that differs, by its path.

    An empty text removes the file.
    """

    changes: tuple[ProjectChange, ...]
    texts: Mapping[str, str]
    before: Mapping[str, str]

    def diff(self) -> str:
        """Return the differences as a unified diff."""
        parts: list[str] = []
        for path, text in self.texts.items():
            old, new = self.before[path].splitlines(keepends=True), text.splitlines(keepends=True)
            names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
            lines = difflib.unified_diff(old, new, *names)
            parts += (line if line.endswith("\n") else f"{line}\n" for line in lines)
        return "".join(parts)


def export_to_project(
    project: HubSpotProject, desired: DesiredState, *, redirect_urls: Sequence[str] = ()
) -> ProjectExport:
    """Change the documents of a project and return what changed.

    Raises:
        ConfigurationError: a document has another form than HubSpot's, there is no target URL, or there would be more
            subscriptions than HubSpot allows.
    """
    webhooks, app = project.webhooks.document, project.app.document
    is_new_app = not project.app.before
    changes = [*_set_settings(webhooks, project.webhooks.path, desired)]
    events = _Events(webhooks, project.written.events)
    changes += events.apply(desired)
    changes += _set_redirect_urls(app, project.app.path, redirect_urls, is_new=is_new_app)
    scopes = _Scopes(app, project.written.scopes)
    changes += scopes.apply(desired)
    written = WrittenParts(frozenset(events.written), frozenset(scopes.written))
    files = [file for file in (project.project, project.app, project.webhooks) if file.is_changed]
    texts, before = {file.path: file.document.text for file in files}, {file.path: file.before for file in files}
    if written.to_text() != project.ledger_text:
        texts[LEDGER], before[LEDGER] = written.to_text(), project.ledger_text
    return ProjectExport(tuple(changes), texts, before)


def active_events(webhooks: JsonDocument) -> frozenset[str]:
    """Return the events of the active subscriptions in a project's component `webhooks`, ours and others'."""
    entries = _Events(webhooks, frozenset()).places()
    return frozenset(
        str(event)
        for event, places in entries.items()
        if any(webhooks.get(*place, "active") is True for place in places)
    )


def write_export(folder: Path, export: ProjectExport) -> None:
    """Write the files that differ."""
    for path, text in export.texts.items():
        file = folder / path
        if not text:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())


def _set_settings(document: JsonDocument, name: str, desired: DesiredState) -> Iterator[ProjectChange]:
    """Set where HubSpot sends events, and how many requests at a time, where the deployment's settings say so."""
    target_url = desired.target_url or document.get(*_SETTINGS, "targetUrl")
    if not target_url:
        raise ConfigurationError(
            [f"{name} has no targetUrl yet. Set PUBLIC_URL to the URL of the web process, such as https://your-host."]
        )
    limit = document.get(*_SETTINGS, "maxConcurrentRequests")
    if limit is None or desired.owns_concurrency:
        limit = desired.max_concurrent_requests
    for key, value in (("targetUrl", target_url), ("maxConcurrentRequests", limit)):
        before = document.get(*_SETTINGS, key)
        if before != value:
            document.set((*_SETTINGS, key), value)
            yield ProjectChange(
                "~" if before is not None else "+", f"{key} {value}", (f"was {before}",) if before else ()
            )


class _Events:
    """The subscriptions of the component `webhooks`."""

    def __init__(self, document: JsonDocument, written: frozenset[str]) -> None:
        self._document = document
        self.written = set(written)

    def apply(self, desired: DesiredState) -> Iterator[ProjectChange]:
        """Remove, add and activate subscriptions; `written` then lists those that exports have added."""
        wanted = {str(event) for event in desired.events}
        yield from self._remove(self.written - wanted)
        entries = self.places()
        self.written &= {str(event) for event in entries}
        for event, places in entries.items():
            if event in desired.events and not any(self._document.get(*place, "active") is True for place in places):
                self._document.set((*places[0], "active"), value=True)
                yield ProjectChange("~", f"{event} active", desired.events[event])
        added = sorted(desired.events.keys() - entries.keys())
        for section in SECTIONS:
            new = [entry for own, entry in map(project_entry, added) if own == section]
            self._document.extend((*_SUBSCRIPTIONS, section), new)
        self.written |= {str(event) for event in added}
        yield from (ProjectChange("+", str(event), desired.events[event]) for event in added)
        if (count := sum(len(places) for places in self.places().values())) > MAX_SUBSCRIPTIONS:
            raise ConfigurationError(
                [f"The project would have {count} subscriptions, and HubSpot allows an app {MAX_SUBSCRIPTIONS}."]
            )

    def _remove(self, names: set[str]) -> Iterator[ProjectChange]:
        """Remove the first entry of each event: exports add one at most, and others of the event are not ours."""
        for name in sorted(names):
            self.written.discard(name)
            places = next((places for event, places in self.places().items() if str(event) == name), None)
            if places:
                *path, index = places[0]
                self._document.remove_item(path, int(index))
                yield ProjectChange("-", name, ("no handler registers for it",))

    def places(self) -> dict[SubscribedEvent, list[tuple[str | int, ...]]]:
        """Return where the file subscribes to each event."""
        places: dict[SubscribedEvent, list[tuple[str | int, ...]]] = {}
        for section in SECTIONS:
            for index, entry in enumerate(self._document.list_at(*_SUBSCRIPTIONS, section)):
                event = event_of_project_entry(entry) if isinstance(entry, dict) else None
                if event is not None:
                    places.setdefault(event, []).append((*_SUBSCRIPTIONS, section, index))
        return places


class _Scopes:
    """The scopes of the app."""

    def __init__(self, document: JsonDocument, written: frozenset[str]) -> None:
        self._document = document
        self.written = set(written)

    def apply(self, desired: DesiredState) -> Iterator[ProjectChange]:
        """Remove and add scopes; `written` then lists those that exports have added."""
        needed = {scope for requirement in desired.scopes for scope in requirement}
        self.written &= set(self._document.list_at(*_REQUIRED))
        for scope in sorted(self.written - needed):
            self._document.remove_item(_REQUIRED, self._document.list_at(*_REQUIRED).index(scope))
            self.written.discard(scope)
            yield ProjectChange("-", scope, ("no handler needs it",))
        granted: list[Any] = [scope for name in _SCOPE_LISTS for scope in self._document.list_at(*_AUTH, name)]
        known = [scope for scope in granted if isinstance(scope, str)]
        missing = missing_scopes(desired.scopes, known)
        self._document.extend(_REQUIRED, list(missing))
        self.written |= missing.keys()
        yield from (ProjectChange("+", scope, reasons) for scope, reasons in missing.items())


def _set_redirect_urls(
    document: JsonDocument, name: str, redirect_urls: Sequence[str], *, is_new: bool
) -> Iterator[ProjectChange]:
    """Add redirect URLs to an app that gets its tokens by OAuth."""
    if document.get(*_AUTH, "type") != "oauth":
        if redirect_urls:
            raise ConfigurationError(
                [f"{name}: the app's auth type is not oauth, so it has no redirect URL. Leave out --redirect-url."]
            )
        return
    known = document.list_at(*_AUTH, "redirectUrls")
    if is_new and not known and not redirect_urls:
        raise ConfigurationError(
            ["An app with OAuth needs the URL that HubSpot returns installers to: add --redirect-url https://..."]
        )
    new = [url for url in dict.fromkeys(redirect_urls) if url not in known]
    document.extend((*_AUTH, "redirectUrls"), new)
    yield from (ProjectChange("+", f"redirectUrls {url}") for url in new)
