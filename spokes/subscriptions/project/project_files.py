"""Find and read the files of a HubSpot project: its app, its webhooks component, and our list of what we wrote.

Source: HubSpot's docs "Configure webhooks" and its project templates, the same for platforms 2025.2, 2026.03, 2026.09.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from spokes.core.errors import ConfigurationError
from spokes.subscriptions.project.json_document import JsonDocument

_PROJECT: Final = "hsproject.json"
LEDGER: Final = "spokes-export.json"  # outside of the sources, so that HubSpot does not read it
_PLATFORM: Final = "2026.03"
_MAX_UID: Final = 64
_MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class ProjectFile:
    """A file of the project: its path in it, its document, and its text before, empty for a new file."""

    path: str
    document: JsonDocument
    before: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether the file must be written."""
        return self.document.text != self.before


@dataclass(slots=True)
class HubSpotProject:
    """The files that an export reads and writes."""

    project: ProjectFile
    app: ProjectFile
    webhooks: ProjectFile
    written: "WrittenParts" = field(default_factory=lambda: WrittenParts(frozenset(), frozenset()))
    ledger_text: str = ""


@dataclass(frozen=True, slots=True)
class WrittenParts:
    """What earlier exports added to the files: only this may be removed again."""

    events: frozenset[str]
    scopes: frozenset[str]

    def to_text(self) -> str:
        """Return the content of the ledger's file, empty if nothing was added."""
        if not self.events and not self.scopes:
            return ""
        parts = {"scopes": sorted(self.scopes), "subscriptions": sorted(self.events)}
        comment = "What `spokes subscriptions export` added to this project, and may remove from it. Keep it in Git."
        return json.dumps({"comment": comment, **parts}, indent=2) + "\n"


def has_project(folder: Path) -> bool:
    """Return whether a folder is a HubSpot project."""
    return (folder / _PROJECT).is_file()


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of a project: its version, the file that names it, and whether its app is for the marketplace."""

    version: str
    path: str
    is_listed: bool


def read_platform(folder: Path) -> Platform | None:
    """Return the platform of the project in a folder, None without a project.

    Raises:
        ConfigurationError: a file cannot be read.
    """
    project = _read(folder, _PROJECT)
    if project is None:
        return None
    version, source = project.document.get("platformVersion"), project.document.get("srcDir")
    app = _single(_components(folder, source), "app") if isinstance(source, str) else None
    is_listed = app is not None and app.document.get("config", "distribution") == "marketplace"
    return Platform(str(version), str(folder / _PROJECT), is_listed)


def read_project(folder: Path, *, name: str, auth: str) -> HubSpotProject:
    """Read the project in a folder; files that are missing begin with a minimal content.

    Args:
        folder: may be missing.
        name: of a new project.
        auth: how a new app gets its token, `static` or `oauth`.

    Raises:
        ConfigurationError: a file cannot be read or used; the sentence names it.
    """
    project = _read(folder, _PROJECT) or _new(_PROJECT, _project_content(name))
    source = project.document.get("srcDir")
    if not isinstance(source, str) or not (folder / source).resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError([f"{folder / _PROJECT}: srcDir must name a folder in the project, such as src."])
    components = _components(folder, source)
    slug = re.sub(r"\W", "_", name).lower()[: _MAX_UID - 9]
    app = _single(components, "app") or _new(f"{source}/app/app-hsmeta.json", _app_content(name, slug, auth))
    beside = Path(app.path).parent.as_posix()
    webhooks = _single(components, "webhooks") or _new(
        f"{beside}/webhooks/webhooks-hsmeta.json", _webhooks_content(slug)
    )
    ledger = _read(folder, LEDGER)
    written = WrittenParts(_texts(ledger, "subscriptions"), _texts(ledger, "scopes"))
    return HubSpotProject(project, app, webhooks, written, ledger.before if ledger else "")


def _components(folder: Path, source: str) -> list[ProjectFile]:
    paths = sorted((folder / source).rglob("*-hsmeta.json"))
    files = (_read(folder, path.relative_to(folder).as_posix()) for path in paths if "node_modules" not in path.parts)
    return [file for file in files if file]


def _single(components: list[ProjectFile], kind: str) -> ProjectFile | None:
    """Return the only component of a type, None if there is none."""
    files = [file for file in components if file.document.get("type") == kind]
    if len(files) > 1:
        names = " and ".join(file.path for file in files)
        raise ConfigurationError([f"A project has one component of type {kind!r}, and this one has {names}."])
    return files[0] if files else None


def _read(folder: Path, path: str) -> ProjectFile | None:
    """Return a file of the project, None if it does not exist."""
    file = folder / path
    try:
        content = file.read_bytes()
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(
                [f"{file}: larger than {_MAX_BYTES} bytes, so it is no file of a HubSpot project."]
            )
        text = content.decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{file}: not UTF-8. Save it as UTF-8."]) from None
    return ProjectFile(path, JsonDocument(text, str(file)), text)


def _new(path: str, content: Mapping[str, Any]) -> ProjectFile:
    return ProjectFile(path, JsonDocument(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path))


def _texts(ledger: ProjectFile | None, name: str) -> frozenset[str]:
    values = ledger.document.list_at(name) if ledger else []
    return frozenset(value for value in values if isinstance(value, str))


def _project_content(name: str) -> dict[str, Any]:
    return {"name": name, "srcDir": "src", "platformVersion": _PLATFORM}


def _app_content(name: str, slug: str, auth: str) -> dict[str, Any]:
    redirect: dict[str, list[str]] = {"redirectUrls": []} if auth == "oauth" else {}
    return {
        "uid": f"{slug}_app",
        "type": "app",
        "config": {
            "name": name,
            "description": "Receives changes in HubSpot and acts on them.",
            "distribution": "private",
            "auth": {
                "type": auth,
                **redirect,
                "requiredScopes": [],
                "optionalScopes": [],
                "conditionallyRequiredScopes": [],
            },
            "permittedUrls": {"fetch": [], "iframe": [], "img": []},
        },
    }


def _webhooks_content(slug: str) -> dict[str, Any]:
    subscriptions: dict[str, list[object]] = {"crmObjects": [], "legacyCrmObjects": [], "hubEvents": []}
    return {"uid": f"{slug}_webhooks", "type": "webhooks", "config": {"settings": {}, "subscriptions": subscriptions}}
