"""`Router`: the table from event types to handlers. Each event has at most one handler."""

import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Final

from spokes.core.deprecation import DeprecatedAlias
from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.crm.access import validate_methods

if TYPE_CHECKING:
    from spokes.tools import Tools

_CACHE_SIZE: Final = 1024  # bounded, because senders choose the event types
Handler = Callable[[Event, "Tools"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Uses:
    """A handler's declaration: the properties it reads, by service, and the CRM methods it may call.

    `reads` maps a service to properties, `{"contacts": ("phone", "country")}`; `may` names methods,
    `{"contacts.update", "tasks.create"}`. The handler's services refuse everything else. With `each_event` the handler
    is called for every change of a property; otherwise changes that wait together are coalesced into the newest.
    """

    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may: frozenset[str] = frozenset()
    each_event: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A registered handler: its name such as `contacts.keep_reachable`, its function, and its declaration."""

    name: str
    function: Handler
    uses: Uses


def uses(
    *, reads: Mapping[str, tuple[str, ...]] | None = None, may: tuple[str, ...] = (), each_event: bool = False
) -> Callable[[Handler], Handler]:
    """Declare what a handler reads and may do; see `Uses`. Write it below `@router.register`, which reads it.

    Raises:
        ConfigurationError: `may` names an unknown method, a string is given in place of a tuple, or `@router.register`
            is below.
    """
    name_tuples: tuple[object, ...] = (may, *(reads or {}).values())
    if any(isinstance(names, str) for names in name_tuples):
        raise ConfigurationError(['@uses takes tuples: reads={"contacts": ("phone",)}, may=("contacts.update",).'])
    declared = Uses(dict(reads or {}), validate_methods(may), each_event)

    def declare(function: Handler) -> Handler:
        if hasattr(function, "__spokes_registered__"):
            raise ConfigurationError([f"{function.__name__}: put @uses below @router.register."])
        function.__spokes_uses__ = declared  # type: ignore[attr-defined]  # read by register
        return function

    return declare


class Router:
    """Handlers by the event type they are registered for, or by event type and property."""

    fetch = DeprecatedAlias("match")
    claims = DeprecatedAlias("registrations")

    def __init__(self, *others: "Router") -> None:
        """Combine `others` into one router.

        Raises:
            ConfigurationError: two of them register the same event type.
        """
        self._routes: dict[str, Route] = {}
        self._cached_match = lru_cache(_CACHE_SIZE)(self._match)
        for other in others:
            for registration, route in other:
                self._add(registration, route)

    def register(self, event_type: str, *, property: str | None = None) -> Callable[[Handler], Handler]:  # noqa: A002 - HubSpot's own word
        """Register the decorated coroutine for an event type.

        Args:
            event_type: `contact.creation`, for both dialects; `object.creation` for every object type, and
                `2-1234.creation` for a custom one.
            property: register only for changes of this property.

        Raises:
            ConfigurationError: another handler is registered, or the decorated function is not a coroutine function.
        """
        registration = f"{event_type}:{property}" if property else event_type

        def register(function: Handler) -> Handler:
            if not iscoroutinefunction(function):
                message = f"{registration}: a handler must be a coroutine, `async def {function.__name__}`."
                raise ConfigurationError([message])
            function.__spokes_registered__ = True  # type: ignore[attr-defined]  # read by uses
            name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
            self._add(registration, Route(name, function, getattr(function, "__spokes_uses__", Uses())))
            return function

        return register

    def match(self, event: Event) -> Route | None:
        """Return the route for `event`, the most specific registration first; None if no handler is registered."""
        name = event.property_name if event.kind == "propertyChange" else None  # other kinds may carry any text there
        return self._cached_match(event.object_type, event.kind, name)

    @property
    def registrations(self) -> frozenset[str]:
        """All registrations: event types, and `type:property` for single properties."""
        return frozenset(self._routes)

    def __iter__(self) -> Iterator[tuple[str, Route]]:
        """Iterate over registrations and their routes, sorted by registration."""
        return iter(sorted(self._routes.items()))

    def _match(self, object_type: str, kind: str, property_name: str | None) -> Route | None:
        for event_type in (f"{object_type}.{kind}", f"object.{kind}"):
            for registration in (f"{event_type}:{property_name}", event_type):
                if route := self._routes.get(registration):
                    return route
        return None

    def _add(self, registration: str, route: Route) -> None:
        self._cached_match.cache_clear()
        registered = self._routes.setdefault(registration, route)
        if registered is not route:
            raise ConfigurationError([f"{registration} has two handlers: {registered.name} and {route.name}."])


def load_router(package: str) -> Router:
    """Import the package that HANDLERS names and return its ROUTER.

    Raises:
        ConfigurationError: the package does not exist, or has no ROUTER.
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
