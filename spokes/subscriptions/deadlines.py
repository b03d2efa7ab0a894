"""What HubSpot ends, and when: the only place with these dates. Pure.

Sources: HubSpot's changelog, "Introducing date-based API versioning", "Deprecating support for HubSpot v4 APIs",
"Legacy APIs and apps: what's going unsupported and when" and the announcements of the sunsets of OAuth v1, of Pipelines
v1 and of the project platforms.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum, unique
from typing import Final, NamedTuple

WARN_DAYS: Final = 180
_MONTHS_OF_A_VERSION: Final = 18
_DATE_VERSION: Final = re.compile(r"/(20\d\d)-(03|09)(?:-beta)?(?:/|$)")


@unique
class UseKind(StrEnum):
    """What a deployment uses of HubSpot."""

    PATH = "path"
    PLATFORM = "project platform"
    LISTED_PLATFORM = "project platform of a listed app"
    APP = "kind of app"


class Use(NamedTuple):
    """Something of HubSpot's that a deployment uses; `place` says where: `our calls`, or a file with its line."""

    subject: UseKind
    name: str
    place: str


class Deadline(NamedTuple):
    """A date on which HubSpot ends something.

    Attributes:
        subject: to which uses it applies.
        names: the names of the uses to which it applies.
        ends: the day; the first of the month if HubSpot names only the month.
        instead: what to do before.
        has_day: whether HubSpot names the day.
        is_switched_off: whether calls fail from then on; otherwise HubSpot only ends its support.
    """

    subject: UseKind
    names: re.Pattern[str]
    ends: date
    instead: str
    has_day: bool = True
    is_switched_off: bool = False


_NEWER_PATH: Final = (
    "Use the path with a date version, such as 2026-09; for calls of Spokes, set HUBSPOT_API_VERSION or update Spokes"
)
_NEWER_PLATFORM: Final = "Set platformVersion in hsproject.json to 2026.03 or newer and run `hs project upload`"
_PROJECT_APP: Final = "Make the app one of a HubSpot project: `spokes subscriptions export` writes its files"
_OLD_PLATFORMS: Final = re.compile(r"20(?:1\d|2[0-4])\.\d+|2025\.1")


def _path(pattern: str, ends: date, *, has_day: bool = True, is_switched_off: bool = False) -> Deadline:
    return Deadline(UseKind.PATH, re.compile(pattern), ends, _NEWER_PATH, has_day, is_switched_off)


# The first deadline that applies to a use counts.
DEADLINES: Final = (
    _path(r"/oauth/v1(?:/|$)", date(2027, 2, 16), is_switched_off=True),
    _path(r"/crm-pipelines/v1(?:/|$)", date(2026, 12, 4), is_switched_off=True),
    _path(r"/v4(?:/|$)", date(2027, 3, 30)),
    _path(r"/v[123](?:/|$)", date(2027, 9, 1), has_day=False),
    Deadline(UseKind.PLATFORM, _OLD_PLATFORMS, date(2026, 8, 1), _NEWER_PLATFORM, is_switched_off=True),
    Deadline(UseKind.PLATFORM, re.compile(r"2025\.2"), date(2027, 3, 1), _NEWER_PLATFORM, has_day=False),
    Deadline(UseKind.LISTED_PLATFORM, _OLD_PLATFORMS, date(2026, 11, 2), _NEWER_PLATFORM),
    Deadline(UseKind.APP, re.compile("legacy public app"), date(2027, 9, 1), _PROJECT_APP, has_day=False),
)


@dataclass(frozen=True, slots=True)
class DueDeadline:
    """A deadline, the uses to which it applies, and the days that are left, negative after it."""

    deadline: Deadline
    uses: tuple[Use, ...]
    days_left: int


def due_deadlines(uses: Iterable[Use], today: date) -> list[DueDeadline]:
    """Return the deadlines that apply to what a deployment uses, the next one first."""
    by_deadline: dict[Deadline, list[Use]] = {}
    for use in dict.fromkeys(uses):
        if deadline := _deadline_of(use):
            by_deadline.setdefault(deadline, []).append(use)
    due = (DueDeadline(each, tuple(used), (each.ends - today).days) for each, used in by_deadline.items())
    return sorted(due, key=lambda each: (each.days_left, each.uses))


def _deadline_of(use: Use) -> Deadline | None:
    for deadline in DEADLINES:
        if use.subject is deadline.subject and deadline.names.search(use.name):
            return deadline
    version = _DATE_VERSION.search(use.name) if use.subject is UseKind.PATH else None
    return _end_of_version(int(version[1]), int(version[2])) if version else None


def _end_of_version(year: int, month: int) -> Deadline:
    """Return when the support of a date version ends."""
    months = year * 12 + month - 1 + _MONTHS_OF_A_VERSION
    ends = date(months // 12, months % 12 + 1, 1)
    instead = "Set HUBSPOT_API_VERSION to a newer version, and use it in paths of your own"
    name = re.compile(re.escape(f"{year}-{month:02}"))
    return Deadline(UseKind.PATH, name, ends, instead, has_day=False)


_HOST: Final = "hubapi.com"
_AREAS: Final = (
    "account-info|analytics|automation|broadcast|business-units|cms|collect|comments|communication-preferences|companies|"
    "contacts|content|conversations|crm|crm-associations|crm-objects|crm-pipelines|deals|email|email-validation|"
    "engagements|events|extensions|filemanager|files|forms|form-integrations|hubdb|integrations|integrators|marketing|"
    "marketing-emails|media-bridge|oauth|owners|properties|reports|scheduler|settings|tax-rates|url-mappings|"
    "webhooks|webhooks-journal"
)
_NUMBERED_PATH: Final = re.compile(rf"(?<![\w/-])(?:{_HOST})?(/(?:{_AREAS})(?:/[\w{{}}.-]+)*?/v[1-4](?:/[\w{{}}.-]+)*)")


def paths_in_source(text: str, name: str) -> Iterator[Use]:
    """Return the numbered paths of HubSpot's API that a source file has; `name` is the file's.

    A path counts if the file names HubSpot's API host: systems of others have `/v1/` too.
    """
    if _HOST not in text:
        return
    for number, line in enumerate(text.splitlines(), 1):
        for match in _NUMBERED_PATH.finditer(line.partition("#")[0]):
            yield Use(UseKind.PATH, match[1], f"{name}:{number}")
