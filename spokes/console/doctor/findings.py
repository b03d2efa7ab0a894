"""The findings of `doctor`: a topic, a level, a sentence for people and figures for programs."""

from dataclasses import dataclass, field
from enum import StrEnum, unique


@unique
class FindingLevel(StrEnum):
    """How serious a finding is; the order is that of severity."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    topic: str
    level: FindingLevel
    sentence: str
    figures: dict[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the finding as a JSON object."""
        figures = {"figures": self.figures} if self.figures else {}
        return {"topic": self.topic, "level": self.level.value, "sentence": self.sentence, **figures}


def ok(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that requires no action."""
    return Finding(topic, FindingLevel.OK, sentence, figures)


def info(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that may be as it should be; only an operator can know."""
    return Finding(topic, FindingLevel.INFO, sentence, figures)


def warning(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that an operator should look at."""
    return Finding(topic, FindingLevel.WARNING, sentence, figures)


def fault(topic: str, sentence: str, **figures: object) -> Finding:
    """Return a finding that needs repair: events can be lost, or are not processed."""
    return Finding(topic, FindingLevel.FAULT, sentence, figures)
