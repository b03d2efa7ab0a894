"""What the queue hands to a delivery run, and what it gets back."""

from enum import Enum, auto
from typing import Any, NamedTuple

from spokes.core.priority import Priority


class ClaimedJob(NamedTuple):
    """An arq job that this process holds.

    Attributes:
        id: of the job and of its delivery.
        argument: what `Delivery.from_job` reads.
        attempt: arq's `job_try`.
        priority: the class of the queue that had the job.
    """

    id: str
    argument: Any
    attempt: int
    priority: Priority = "interactive"


class DeliveryEnd(Enum):
    """How a delivery run ended."""

    CLOSED = auto()  # the job left the queue with its last event
    UNREADABLE = auto()  # stored aside; the job can leave the queue
    HELD_ELSEWHERE = auto()  # another worker has claimed the delivery or settled some of its events: it stays queued
