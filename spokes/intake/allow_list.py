"""Which event types are queued: those the handlers register for, plus and minus ALLOWED_EVENTS. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event

MAX_CACHED: Final = 2_000  # entries of a cache: property names are an open set, so their number and length are bounded
_MAX_CACHED_CHARS: Final = 300  # of all names of a cache key together; HubSpot's own property names have at most 100


def is_cacheable(*names: object) -> bool:
    """Return whether the names are short enough for a cache key; a sender may put any text in a name field."""
    return sum([len(name) for name in names if isinstance(name, str)]) <= _MAX_CACHED_CHARS


class AllowList:
    """Decides whether an event is queued.

    An entry is a type (`contact.creation`) or a type and a property (`contact.propertyChange:email`);
    `object.creation` matches every object type. An entry with a leading `-` excludes what it matches. `portals` has the
    allow lists of portals in which handlers or event types are switched off.
    """

    def __init__(
        self, registrations: Iterable[str], allowed_events: Iterable[str] = (), *, only: Iterable[str] = ()
    ) -> None:
        """Combine the sources.

        Args:
            registrations: the types and properties that handlers register for.
            allowed_events: the entries of ALLOWED_EVENTS.
            only: entries that restrict the others; nothing else is allowed. Empty: no restriction.

        Raises:
            ConfigurationError: an entry of ALLOWED_EVENTS is not a type.
        """
        entries = [entry.removeprefix("+") for entry in allowed_events]
        if invalid := [entry for entry in entries if "." not in entry]:
            raise ConfigurationError(
                [f"ALLOWED_EVENTS: {entry!r} is not a type such as contact.creation." for entry in invalid]
            )
        denied, allowed = _split(entries)
        self._allowed = frozenset({*registrations, *allowed} - denied)
        own_denied, self._only = _split(only)
        self._denied = denied | own_denied
        self.portals: Mapping[int, AllowList] = {}
        self._cache: dict[tuple[str, str, str | None], bool] = {}

    def for_portal(self, portal_id: int) -> "AllowList":
        """Return the allow list of a portal."""
        return self.portals.get(portal_id, self)

    def allows(self, event: Event) -> bool:
        """Return whether `event` is queued."""
        property_name = event.property_name if event.kind == "propertyChange" else None
        cache_key = (event.object_type, event.kind, property_name)
        allowed = self._cache.get(cache_key)
        if allowed is None:
            entries = _matching_entries(*cache_key)
            allowed = not self._denied.intersection(entries) and not self._allowed.isdisjoint(entries)
            allowed = allowed and not (self._only and self._only.isdisjoint(entries))
            if len(self._cache) < MAX_CACHED and is_cacheable(*cache_key):
                self._cache[cache_key] = allowed
        return allowed

    def allows_name(self, registration: str) -> bool:
        """Return whether events are queued that match a registration such as `contact.propertyChange:email`."""
        event_type, _, property_name = registration.partition(":")
        object_type, _, kind = event_type.partition(".")
        entries = _matching_entries(object_type, kind, property_name or None)
        return not self._denied.intersection(entries) and not self._allowed.isdisjoint(entries)


def _split(entries: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the entries with a leading `-`, without it, and the others."""
    listed = [entry.removeprefix("+") for entry in entries]
    return (
        frozenset(entry[1:] for entry in listed if entry.startswith("-")),
        frozenset(entry for entry in listed if not entry.startswith("-")),
    )


def _matching_entries(object_type: str, kind: str, property_name: str | None) -> set[str]:
    """Return every entry that matches such an event."""
    types = (f"{object_type}.{kind}", f"object.{kind}")
    return {*types, *(f"{type_}:{property_name}" for type_ in types if property_name)}
