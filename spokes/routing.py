"""Router: which handler takes which event. Rule: exactly one, and who would be called can be asked without a call."""

import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Final

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.crm.access import validate_methods

if TYPE_CHECKING:
    from spokes.tools import Tools

_CACHE_SIZE: Final = 1024  # answers that are remembered; whoever sends events chooses what is asked
Handler = Callable[[Event, "Tools"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Uses:
    """What a handler declares: the properties it reads, by service, and the CRM methods it may call.

    `reads` maps a service to properties, `{"contacts": ("phone", "country")}`; `may` names methods,
    `{"contacts.update", "tasks.create"}`. The handler gets services that offer nothing else. `each_event` asks for
    every single change of a property; else several that wait together come once, as the newest.
    """

    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may: frozenset[str] = frozenset()
    each_event: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, where it claims something: its name as `contacts.keep_reachable`, its function, what it uses."""

    name: str
    function: Handler
    uses: Uses


def uses(
    *, reads: Mapping[str, tuple[str, ...]] | None = None, may: tuple[str, ...] = (), each_event: bool = False
) -> Callable[[Handler], Handler]:
    """Declare what a handler reads and may do; see Uses. Stands below `register`, which takes note of it.

    Raises:
        ConfigurationError: a method of `may` is none, a text stands where several belong, or `register` stands below.
    """
    given: tuple[object, ...] = (may, *(reads or {}).values())
    if any(isinstance(names, str) for names in given):
        raise ConfigurationError(['@uses takes tuples: reads={"contacts": ("phone",)}, may=("contacts.update",).'])
    declared = Uses(dict(reads or {}), validate_methods(may), each_event)

    def declare(function: Handler) -> Handler:
        if hasattr(function, "__spokes_claims__"):
            raise ConfigurationError([f"{function.__name__}: @uses must stand below @router.register."])
        function.__spokes_uses__ = declared  # type: ignore[attr-defined]  # read by register
        return function

    return declare


class Router:
    """Handlers by what they claim: a type, or a type and a property."""

    def __init__(self, *others: "Router") -> None:
        """Join `others` into one.

        Raises:
            ConfigurationError: two of them claim the same.
        """
        self._routes: dict[str, Route] = {}
        self._cached_match = lru_cache(_CACHE_SIZE)(self._match)
        for other in others:
            for claim, route in other:
                self._add(claim, route)

    def register(self, event_type: str, *, property: str | None = None) -> Callable[[Handler], Handler]:  # noqa: A002 - HubSpot's own word
        """Claim a type for the decorated coroutine.

        Args:
            event_type: `contact.creation`, for both dialects; `object.creation` for every object type, and
                `2-1234.creation` for a custom one.
            property: claim only changes of this property.

        Raises:
            ConfigurationError: it is claimed already, or what is decorated is no coroutine function.
        """
        claim = f"{event_type}:{property}" if property else event_type

        def register(function: Handler) -> Handler:
            if not iscoroutinefunction(function):
                raise ConfigurationError([f"{claim}: a handler is a coroutine, `async def {function.__name__}`."])
            function.__spokes_claims__ = True  # type: ignore[attr-defined]  # read by uses
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
            self._add(claim, Route(name, function, getattr(function, "__spokes_uses__", Uses())))
            return function

        return register

    def match(self, event: Event) -> Route | None:
        """Return the handler that takes `event`: the one that claims most exactly, or None."""
        name = event.property_name if event.kind == "propertyChange" else None  # else it may be anything
        return self._cached_match(event.object_type, event.kind, name)

    @property
    def registrations(self) -> frozenset[str]:
        """Everything that is claimed: types, and `type:property` for single properties."""
        return frozenset(self._routes)

    def __iter__(self) -> Iterator[tuple[str, Route]]:
        """Go through claims and their handlers, sorted by claim."""
        return iter(sorted(self._routes.items()))

    def _match(self, object_type: str, kind: str, property_name: str | None) -> Route | None:
        for event_type in (f"{object_type}.{kind}", f"object.{kind}"):
            for claim in (f"{event_type}:{property_name}", event_type):
                if route := self._routes.get(claim):
                    return route
        return None

    def _add(self, claim: str, route: Route) -> None:
        self._cached_match.cache_clear()
        holder = self._routes.setdefault(claim, route)
        if holder is not route:
            raise ConfigurationError([f"{claim} is claimed twice: by {holder.name} and by {route.name}."])


def load_router(package: str) -> Router:
    """Import the package that HANDLERS names and return its ROUTER.

    Raises:
        ConfigurationError: there is no such package, or it has no ROUTER.
    """
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name and package.startswith(error.name):
            raise ConfigurationError([f"HANDLERS names {package!r}, and there is no such package."]) from None
        raise
    router = getattr(module, "ROUTER", None)
    if not isinstance(router, Router):
        raise ConfigurationError([f"HANDLERS names {package!r}, which has no ROUTER of type Router."])
    return router
