"""What became of a plan of either kind."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class AppliedPlan:
    """What an apply changed, as in the plan's lines, and a sentence for each change that HubSpot refused."""

    done: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
