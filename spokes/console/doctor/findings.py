"""What `doctor` finds, one sentence each. Rule: a fault is what would lose an event; anything less is a warning."""

from dataclasses import dataclass, field
from enum import StrEnum, unique


@unique
class FindingLevel(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its topic, how it stands, a sentence for people, figures for programs."""

    topic: str
    level: FindingLevel
    sentence: str
    figures: dict[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return it ready for JSON."""
        figures = {"figures": self.figures} if self.figures else {}
        return {"topic": self.topic, "level": self.level.value, "sentence": self.sentence, **figures}


def ok(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that needs nobody."""
    return Finding(topic, FindingLevel.OK, sentence, figures)


def warning(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(topic, FindingLevel.WARNING, sentence, figures)


def fault(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that would lose an event."""
    return Finding(topic, FindingLevel.FAULT, sentence, figures)
