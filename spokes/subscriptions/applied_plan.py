"""The result of applying a plan, of push or journal subscriptions."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class AppliedPlan:
    """What an apply changed, as in the plan's lines; what HubSpot refused, and what else to know, in sentences.

    `begun` are the events that HubSpot sends from now on, and did not before; of the journal, the subscriptions that
    hold all that is wanted.
    """

    done: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
