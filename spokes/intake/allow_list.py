"""Which events are taken in: what the handlers claim, and what ALLOWED_EVENTS adds or takes away. Rule: pure."""

from collections.abc import Iterable
from typing import Final

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event

MAX_CACHED: Final = 2_000  # names are an open set: bounds on their number and length keep memory flat
_MAX_CACHED_CHARS: Final = 300  # characters of all names together; HubSpot's own property names have at most 100


def is_cacheable(*names: object) -> bool:
    """Return whether names are short enough to be remembered; any text may stand where HubSpot puts a name."""
    return sum([len(name) for name in names if isinstance(name, str)]) <= _MAX_CACHED_CHARS


class AllowList:
    """Answers whether an event is wanted.

    Words are types, `contact.creation`, or a type and a property, `contact.propertyChange:email`; `object.creation`
    stands for every object type. A word with a leading `-` takes away what the others gave.
    """

    def __init__(self, registrations: Iterable[str], allowed_events: Iterable[str] = ()) -> None:
        """Put the list together.

        Args:
            claims: what the handlers claim.
            allowed_events: the words of ALLOWED_EVENTS.

        Raises:
            ConfigurationError: one of the words is not a type.
        """
        words = [word.removeprefix("+") for word in allowed_events]
        if faulty := [word for word in words if "." not in word]:
            raise ConfigurationError(
                [f"ALLOWED_EVENTS: {word!r} is not a type such as contact.creation." for word in faulty]
            )
        denied = {word[1:] for word in words if word.startswith("-")}
        self._denied = frozenset(denied)
        self._allowed = frozenset({*registrations, *(word for word in words if not word.startswith("-"))} - denied)
        self._cache: dict[tuple[str, str, str | None], bool] = {}

    def allows(self, event: Event) -> bool:
        """Return whether `event` is to be queued."""
        # Elsewhere the field means nothing and may be anything, also what cannot be looked up.
        name = event.raw["propertyName"] if event.kind == "propertyChange" else None
        question = (event.object_type, event.kind, name)
        answer = self._cache.get(question)
        if answer is None:
            names = _matching_entries(*question)
            answer = not self._denied.intersection(names) and not self._allowed.isdisjoint(names)
            if len(self._cache) < MAX_CACHED and is_cacheable(*question):
                self._cache[question] = answer
        return answer


def _matching_entries(object_type: str, kind: str, property_name: str | None) -> set[str]:
    """Every word that speaks of such an event."""
    types = (f"{object_type}.{kind}", f"object.{kind}")
    return {*types, *(f"{name}:{property_name}" for name in types if property_name)}
