"""Check the files of a HubSpot project as `hs project upload` would: what HubSpot documents of their form.

Source: HubSpot's project templates (platforms 2025.2, 2026.03, 2026.09) and its docs "Configure webhooks".
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from spokes.simulator.errors import JsonObject
from spokes.simulator.push_subscriptions import EVENT_TYPES, MAX_SUBSCRIPTIONS, MIN_CONCURRENT_REQUESTS

_PLATFORMS: Final = frozenset({"2025.2", "2026.03", "2026.09"})
_MAX_UID: Final = 64
_HUB_EVENTS: Final = "conversation."
_PRIVACY: Final = "contact.privacyDeletion"
_SECTIONS: Final = ("crmObjects", "legacyCrmObjects", "hubEvents")


def project_faults(folder: Path) -> list[str]:
    """Return what HubSpot would refuse in a project, with the file."""
    project = _read(folder / "hsproject.json")
    faults = [f"hsproject.json: {fault}" for fault in _project_faults(project)]
    components = {file: _read(file) for file in sorted((folder / str(project.get("srcDir"))).rglob("*-hsmeta.json"))}
    for file, component in components.items():
        check = {"app": _app_faults, "webhooks": _webhook_faults}.get(str(component.get("type")), _no_faults)
        faults += [f"{file.name}: {fault}" for fault in (*_uid_faults(component), *check(_object(component, "config")))]
    for kind in ("app", "webhooks"):
        if (count := sum(component.get("type") == kind for component in components.values())) != 1:
            faults.append(f"{count} components of type {kind}")
    return faults


def _project_faults(project: JsonObject) -> Iterator[str]:
    for name in ("name", "srcDir"):
        if not project.get(name):
            yield f"no {name}"
    if project.get("platformVersion") not in _PLATFORMS:
        yield f"platformVersion {project.get('platformVersion')}"


def _uid_faults(component: JsonObject) -> Iterator[str]:
    uid = component.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= _MAX_UID:
        yield "uid"


def _app_faults(config: JsonObject) -> Iterator[str]:
    auth = _object(config, "auth")
    if auth.get("type") not in {"oauth", "static"}:
        yield "auth.type"
    if config.get("distribution") not in {"private", "marketplace"}:
        yield "distribution"
    scopes = auth.get("requiredScopes")
    if not isinstance(scopes, list) or not all(isinstance(each, str) for each in scopes):
        yield "auth.requiredScopes"
    urls = auth.get("redirectUrls", [])
    if auth.get("type") == "oauth" and not (urls and all(_is_redirect(url) for url in urls)):
        yield "auth.redirectUrls"
    if auth.get("type") == "static" and urls:
        yield "auth.redirectUrls of a static app"


def _webhook_faults(config: JsonObject) -> Iterator[str]:
    settings, subscriptions = _object(config, "settings"), _object(config, "subscriptions")
    if not str(settings.get("targetUrl")).startswith("https://"):
        yield "settings.targetUrl"
    limit = settings.get("maxConcurrentRequests")
    if type(limit) is not int or limit < MIN_CONCURRENT_REQUESTS:
        yield "settings.maxConcurrentRequests"
    entries = [(section, entry) for section in _SECTIONS for entry in subscriptions.get(section, [])]
    if len(entries) > MAX_SUBSCRIPTIONS:
        yield f"{len(entries)} subscriptions"
    seen = set()
    for section, entry in entries:
        if fault := _entry_fault(section, entry):
            yield f"{section}: {fault}: {json.dumps(entry)}"
        key = tuple(str(entry.get(name)) for name in ("subscriptionType", "objectType", "propertyName"))
        if key in seen:
            yield f"{section}: twice: {json.dumps(entry)}"
        seen.add(key)


def _entry_fault(section: str, entry: JsonObject) -> str:
    """Return what is wrong with a subscription, the empty text if nothing is."""
    type_, object_type, name = (entry.get(key) for key in ("subscriptionType", "objectType", "propertyName"))
    if type(entry.get("active")) is not bool:
        return "active"
    if type_ not in EVENT_TYPES:
        return "subscriptionType"
    is_generic, is_hub = str(type_).startswith("object."), type_ == _PRIVACY or str(type_).startswith(_HUB_EVENTS)
    if section != ("crmObjects" if is_generic else "hubEvents" if is_hub else "legacyCrmObjects"):
        return "section"
    if is_generic != (isinstance(object_type, str) and bool(object_type)):
        return "objectType"
    if str(type_).endswith(".propertyChange") != (isinstance(name, str) and bool(name)):
        return "propertyName"
    return ""


def _no_faults(_config: JsonObject) -> Iterator[str]:
    return iter(())


def _is_redirect(url: object) -> bool:
    parts = urlsplit(str(url))
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "localhost")


def _object(content: JsonObject, name: str) -> JsonObject:
    value = content.get(name)
    return value if isinstance(value, dict) else {}


def _read(file: Path) -> JsonObject:
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    return content if isinstance(content, dict) else {}
