"""What became of a write, and of each input of a call for many. Rule: every input has one fate, in the order given."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from spokes.core.errors import CRMError, NotAuthorized, TransientCRMError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What a write came to: the object it made or changed, and HubSpot's correlation id."""

    object_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[T]):
    """What became of one input: its `result`, or the `error` that is its own.

    `id` is what was asked for: an object's id, or the value of a unique property; empty for what was to be made.
    """

    id: str
    result: T | None = None
    error: CRMError | None = None

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None


class ItemResults(tuple[ItemResult[T], ...]):
    """The fates of all inputs, in their order."""

    __slots__ = ()

    @property
    def failed(self) -> "tuple[ItemResult[T], ...]":
        """Those that were not done."""
        return tuple(fate for fate in self if not fate.ok)

    def raise_for_errors(self) -> None:
        """Insist that all was done.

        Raises:
            CRMError: the gravest one: a refused token, then what may work later, then what never will.
        """
        for kind in (NotAuthorized, TransientCRMError, CRMError):
            for error in filter(None, (fate.error for fate in self)):
                if isinstance(error, kind):
                    raise error


async def gather_results(asks: Iterable[tuple[str, Awaitable[T]]]) -> ItemResults[T]:
    """Wait for all `asks`, each with the id it is about; what one raises is its own fate."""
    return ItemResults(await asyncio.gather(*(_item_result(*ask) for ask in asks)))


async def _item_result(input_id: str, ask: Awaitable[T]) -> ItemResult[T]:
    try:
        return ItemResult(input_id, await ask)
    except CRMError as error:
        return ItemResult(input_id, error=error)
