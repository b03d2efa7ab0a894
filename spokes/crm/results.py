"""The receipt of a write, and the results of calls for many inputs: one per input, in the order of the inputs."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from spokes.core.deprecation import DeprecatedAlias, deprecated_names
from spokes.core.errors import CRMError, NotAuthorized, TransientCRMError

T = TypeVar("T")

if not TYPE_CHECKING:  # type checkers know the new names only
    __getattr__ = deprecated_names(__name__, {"Fate": "ItemResult", "Fates": "ItemResults"})


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """The object that a write created or changed, and HubSpot's correlation id."""

    object_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[T]):
    """The `result` of one input, or its `error`.

    `id` is the input: an object's id, or the value of a unique property; empty for an object to create.
    """

    id: str
    result: T | None = None
    error: CRMError | None = None

    @property
    def ok(self) -> bool:
        """Whether there was no error."""
        return self.error is None


class ItemResults(tuple[ItemResult[T], ...]):
    """The results of all inputs, in their order."""

    __slots__ = ()
    require = DeprecatedAlias("raise_for_errors")

    @property
    def failed(self) -> "tuple[ItemResult[T], ...]":
        """The results with an error."""
        return tuple(result for result in self if not result.ok)

    def raise_for_errors(self) -> None:
        """Raise the gravest error, if there is one.

        Raises:
            CRMError: NotAuthorized before any TransientCRMError, and that before permanent errors.
        """
        for error_class in (NotAuthorized, TransientCRMError, CRMError):
            for error in filter(None, (result.error for result in self)):
                if isinstance(error, error_class):
                    raise error


def texts_of(texts: str | Iterable[str]) -> Iterable[str]:
    """Return the texts; a single one is one text, not its letters."""
    return (texts,) if isinstance(texts, str) else texts


def pairs_of(items: Mapping[str, T] | Iterable[tuple[str, T]]) -> Iterable[tuple[str, T]]:
    """Return the pairs of a mapping, or those given."""
    return items.items() if isinstance(items, Mapping) else items


async def gather_results(calls: Iterable[tuple[str, Awaitable[T]]]) -> ItemResults[T]:
    """Await all `calls`, each with its input; return each one's result or its CRMError."""
    return ItemResults(await asyncio.gather(*(_item_result(*call) for call in calls)))


async def _item_result(input_id: str, call: Awaitable[T]) -> ItemResult[T]:
    try:
        return ItemResult(input_id, await call)
    except CRMError as error:
        return ItemResult(input_id, error=error)
