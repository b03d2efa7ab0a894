"""What the queue hands to a delivery run, and what it gets back."""

from enum import Enum, auto
from typing import Any, NamedTuple


class ClaimedJob(NamedTuple):
    """An arq job that this process holds; `argument` is what `Delivery.from_job` reads, `attempt` arq's `job_try`."""

    id: str
    argument: Any
    attempt: int


class DeliveryEnd(Enum):
    """How a delivery run ended."""

    CLOSED = auto()  # the job left the queue with its last event
    UNREADABLE = auto()  # stored aside; the job can leave the queue
    HELD_ELSEWHERE = auto()  # another worker has claimed the delivery or settled some of its events: it stays queued
