"""Check for settings that are accepted and still need a change: weak keys, parts without effect, misspelt names."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from spokes.console.doctor.findings import Finding, info, warning
from spokes.core.process.private_files import NOT_WRITABLE, folder_problem
from spokes.core.settings import Settings
from spokes.handler_settings import handler_variables
from spokes.registrations import registration_key

TOPIC: Final = "settings"
_LIKENESS: Final = 0.8  # from which on a name counts as misspelt; PORTAL_ID and PORTAL_IDS have 0.95
_SHORTEST_NAME: Final = 6  # PORT and HOST resemble too much


def assess_settings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Assess settings by themselves, and the names of the variables from which they were read."""
    for note in settings.notes:
        yield warning(TOPIC, f"{note} Remove them, so that nobody relies on them.")
    if settings.has_weak_audit_key:
        yield warning(
            TOPIC,
            "AUDIT_KEY is short enough to guess, and with it the audit can be rewritten. The records need it, so "
            "keep it for them; give the next deployment a key from `openssl rand -hex 32`.",
        )
    for problem in _unmatched(settings.allowed_events):
        yield warning(TOPIC, f"ALLOWED_EVENTS has an entry that no event matches: {problem}")
    for name, meant in misspelt(environ, {name.upper() for name in Settings.model_fields}):
        yield warning(TOPIC, f"{name} is no setting, so it has no effect. Did you mean {meant}?")


def assess_data_folder(path: Path) -> Iterator[Finding]:
    """Assess DATA_DIR, which workers need for crash traces even if Redis, audit and key are elsewhere."""
    problem = folder_problem(path)
    if not problem:
        return
    sentence = (
        f"DATA_DIR ({path}) cannot be used on this machine ({problem}): workers here keep no crash traces, so a crash "
        "in C names no handler."
    )
    if problem == NOT_WRITABLE:  # as on a read-only file system: it may be meant
        yield info(TOPIC, sentence)
    else:
        yield warning(TOPIC, f"{sentence} Set DATA_DIR to a folder that this user can write to.")


def misspelt(environ: Mapping[str, str], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each variable that resembles a setting that is not set, with that setting.

    Variables of other programs begin with other words, and settings of the handlers have names of their own.
    """
    known = {*names, *handler_variables()}
    first_words = {name.partition("_")[0] for name in known if "_" in name}
    unset = [name for name in known if name not in environ and len(name) >= _SHORTEST_NAME]
    for name in sorted(environ):
        if name not in known and name.upper().partition("_")[0] in first_words:
            for meant in get_close_matches(name.upper(), unset, n=1, cutoff=_LIKENESS):
                yield name, meant


def _unmatched(entries: Iterable[str]) -> Iterator[str]:
    for entry in entries:
        event_type, _, property_name = entry.lstrip("+-").partition(":")
        try:
            registration_key(event_type, property_name or None)
        except ValueError as error:
            yield str(error)
