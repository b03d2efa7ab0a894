"""Submissions: the inputs of single callers to a batch, and the future of each result."""

import asyncio
from collections.abc import Mapping
from typing import Generic, TypeAlias, TypeVar

from spokes.core.errors import CRMError, LeaseLost
from spokes.core.priority import Priority
from spokes.crm.transport.paced_client import SendContext

Payload = TypeVar("Payload")
Result = TypeVar("Result")


class Submission(Generic[Payload, Result]):
    """One caller's input to a batch: what to do with it, on whose behalf, and the future of its result.

    `is_repeated` once it was refused for now and a task of its own sends it again.
    """

    __slots__ = ("context", "future", "input_id", "is_repeated", "payload")

    def __init__(self, input_id: str, payload: Payload, context: SendContext) -> None:
        self.input_id = input_id
        self.payload = payload
        self.context = context
        self.is_repeated = False
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def is_still_wanted(self) -> bool:
        """Return whether the input belongs in a call that is sent now; a caller without its lease gets LeaseLost."""
        if self.future.done():
            return False
        try:
            self.context.before_send()
        except LeaseLost as error:
            self.future.set_exception(error)
            return False
        return True

    def resolve(self, result: Result) -> None:
        """Return the result to the caller, unless it was cancelled."""
        if not self.future.done():
            self.future.set_result(result)

    def reject(self, error: CRMError) -> None:
        """Raise an error in the caller, unless it was cancelled."""
        if not self.future.done():
            self.future.set_exception(error)


Batch: TypeAlias = Mapping[str, list[Submission[Payload, Result]]]  # submissions by input id


def batch_priority(batch: Batch[Payload, Result]) -> Priority:
    """Return the priority of a further call for a batch: that of its most urgent submission."""
    is_interactive = any(s.context.priority == "interactive" for submissions in batch.values() for s in submissions)
    return "interactive" if is_interactive else "import"
