"""Check for settings that are accepted and still need a change: weak keys, and parts without effect."""

from collections.abc import Iterator
from typing import Final

from spokes.console.doctor.findings import Finding, warning
from spokes.core.settings import Settings

TOPIC: Final = "settings"


def assess_settings(settings: Settings) -> Iterator[Finding]:
    """Assess settings by themselves."""
    for note in settings.notes:
        yield warning(TOPIC, f"{note} Remove them, so that nobody relies on them.")
    if settings.has_weak_audit_key:
        yield warning(
            TOPIC,
            "AUDIT_KEY is short enough to guess, and with it the audit can be rewritten. The records need it, so "
            "keep it for them; give the next deployment a key from `openssl rand -hex 32`.",
        )
