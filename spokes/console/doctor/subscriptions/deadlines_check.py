"""Name the calls, platforms and apps of this deployment that HubSpot ends, with the days that are left."""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from spokes.console.doctor.findings import Finding, fault, info, ok, warning
from spokes.core import clock
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.crm.transport.paths import Paths
from spokes.subscriptions.deadlines import WARN_DAYS, DueDeadline, Use, UseKind, due_deadlines, paths_in_source
from spokes.subscriptions.project.project_files import read_platform
from spokes.subscriptions.push.api import push_path

TOPIC: Final = "deadlines"
PROJECT_FOLDER: Final = Path("hubspot")
_OUR_CALLS: Final = "calls of Spokes"
_NAMED: Final = 6  # uses that a finding names
_MAX_FILES: Final = 500
_MAX_BYTES: Final = 1_000_000


async def check_deadlines(settings: Settings) -> list[Finding]:
    """Find what this deployment uses, and assess what of it HubSpot ends."""
    today = datetime.fromtimestamp(clock.now_s(), UTC).date()
    try:
        uses = await asyncio.to_thread(lambda: [*deployment_uses(settings), *project_uses(PROJECT_FOLDER)])
    except ConfigurationError as error:
        return [warning(TOPIC, problem) for problem in error.problems]
    return list(assess_deadlines(uses, today))


def assess_deadlines(uses: Iterable[Use], today: date) -> Iterator[Finding]:
    """Return a finding for each deadline that applies: a warning from 180 days on."""
    due = due_deadlines(uses, today)
    for each in due:
        level = info if each.days_left > WARN_DAYS else warning
        if each.days_left < 0 and each.deadline.is_switched_off:
            level = fault
        yield level(TOPIC, _sentence(each), ends=each.deadline.ends.isoformat(), days_left=each.days_left)
    if not due:
        yield ok(TOPIC, "HubSpot has announced no end of anything that this deployment uses.")


def _sentence(due: DueDeadline) -> str:
    deadline, days = due.deadline, due.days_left
    day = f"on {deadline.ends.isoformat()}" if deadline.has_day else f"in {deadline.ends:%B %Y}"
    effect = "switches it off" if deadline.is_switched_off else "ends its support"
    if days < 0:
        effect = effect.replace("switches", "switched").replace("ends", "ended")
    left = f"{abs(days)} day{'s' if abs(days) != 1 else ''} {'left' if days >= 0 else 'ago'}"
    places: dict[str, list[str]] = {}
    for use in due.uses:
        places.setdefault(use.name, []).append(use.place)
    names = [f"{name} ({', '.join(dict.fromkeys(used))})" for name, used in places.items()]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    subject = deadline.subject.value
    return f"HubSpot {effect} {day} ({left}): {subject} {', '.join(names[:_NAMED])}{more}. {deadline.instead}."


def deployment_uses(settings: Settings) -> Iterator[Use]:
    """Return what Spokes itself calls with these settings, and what the source of the handlers names."""
    paths = Paths(settings.hubspot_api_version)
    own = [paths.objects("contact"), paths.object_associations("contact", "id"), paths.properties("contact")]
    own.append(paths.account_details())
    if settings.hubspot_access_token.get_secret_value():
        own.append(paths.token_info())
    if settings.hubspot_client_id:
        own.append(f"/oauth/{settings.hubspot_api_version}/token")
    if settings.hubspot_developer_api_key.get_secret_value():
        own.append(push_path(settings.hubspot_api_version))
        yield Use(UseKind.APP, "legacy public app", "HUBSPOT_DEVELOPER_API_KEY")
    yield from (Use(UseKind.PATH, path, _OUR_CALLS) for path in own)
    for file in _handler_files(settings.handlers):
        yield from paths_in_source(file.read_text(errors="replace"), _short_name(file))


def project_uses(folder: Path) -> Iterator[Use]:
    """Return the platform of the HubSpot project in a folder; nothing without a project.

    Raises:
        ConfigurationError: a file of the project cannot be read.
    """
    platform = read_platform(folder)
    if platform is not None:
        yield Use(UseKind.PLATFORM, platform.version, platform.path)
        if platform.is_listed:
            yield Use(UseKind.LISTED_PLATFORM, platform.version, platform.path)


def _handler_files(package: str) -> list[Path]:
    """Return the source files of the handlers' package, which has been imported."""
    module = sys.modules.get(package)
    name = getattr(module, "__file__", None)
    if not name:
        return []
    file = Path(name)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return [each for each in files[:_MAX_FILES] if each.stat().st_size <= _MAX_BYTES]


def _short_name(file: Path) -> str:
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
