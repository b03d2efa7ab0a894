"""`Router`: the table from event types to handlers. Several handlers may register for the same events.

A registration or declaration that can never take effect is refused. `load_router` collects all such faults of a
package into one error; outside of it, the first fault raises.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog

from spokes.core.deprecation import DeprecatedAlias
from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.core.process.current_folder import from_current_folder
from spokes.core.process.env_file import is_production
from spokes.crm.declarations import read_declared_methods, read_declared_properties
from spokes.handler_settings import collected_settings_faults, read_settings_of
from spokes.http.hosts import Host, HostLimits, merge_hosts, read_declared_hosts
from spokes.import_faults import import_fault, is_missing, no_router
from spokes.registrations import PORTAL, registration_key
from spokes.run_limits import NO_LIMITS, RunLimits, read_retried_exceptions, read_run_limits

if TYPE_CHECKING:
    from spokes.tools import Tools

_CACHE_SIZE: Final = 1024  # bounded, because senders choose the event types
Handler = Callable[[Event, "Tools"], Awaitable[None]]
DEFAULT_PACKAGE: Final = "handlers"
NO_HANDLERS: Final = (
    "There are no handlers, so every event is ignored. List the routers of your files in the ROUTER of a package that "
    "HANDLERS names (by default `handlers` in this folder), or write a project with `spokes new my-crm`."
)
log = structlog.get_logger()
_faults: ContextVar[list[str] | None] = ContextVar("faults", default=None)  # of the package that is being loaded


@dataclass(frozen=True, slots=True)
class Uses:
    """A handler's declaration: the properties it reads, by service, and the CRM methods it may call.

    `reads` maps a service to properties, `{"contacts": ("phone", "country")}`; `may` names methods,
    `{"contacts.update", "tasks.create"}`. The handler's services refuse everything else. With `each_event` the handler
    is called for every change of a property; otherwise changes that wait together are coalesced into the newest.
    `calls` has the hosts beside HubSpot that `tools.http` may call, by origin.
    `limits` has the time-out and the retries of its runs, and how many may run and start, in all workers together.
    `retry_on` names exceptions that are retried as connection errors are; any other of the handler's own is a bug.
    """

    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may: frozenset[str] = frozenset()
    each_event: bool = False
    limits: RunLimits = NO_LIMITS
    retry_on: tuple[type[Exception], ...] = ()
    calls: Mapping[str, Host] = field(default_factory=dict)

    @property
    def is_limited(self) -> bool:
        """Whether a run may have to wait for others of the handler."""
        return self.limits.concurrency is not None or self.limits.rate is not None


@dataclass(frozen=True, slots=True)
class Route:
    """A registered handler: its name such as `contacts.keep_reachable`, its function, and its declaration.

    `place` is the file and line of the function.
    """

    name: str
    function: Handler
    uses: Uses
    place: str = field(default="", compare=False)


def uses(
    *,
    reads: Mapping[str, tuple[str, ...]] | None = None,
    may: tuple[str, ...] = (),
    calls: tuple[str | Host, ...] = (),
    each_event: bool = False,
    timeout_s: float | None = None,
    retries: tuple[float, ...] | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    retry_on: tuple[type[Exception], ...] = (),
) -> Callable[[Handler], Handler]:
    """Declare what a handler reads and may do; see `Uses`. Write it below `@router.register`, which reads it.

    Args:
        reads: properties by service.
        may: the methods that it may call.
        calls: hosts that it calls with `tools.http`: "https://erp.example.com", or a `Host` with limits.
        each_event: call it for every change, not only for the newest of those that wait.
        timeout_s: seconds after which a run is cancelled, in place of HANDLER_TIMEOUT_S.
        retries: longest delay before each retry, in place of RETRY_SCHEDULE_S.
        concurrency: most runs at a time, in all workers together.
        rate: most starts in all workers together: "10/s", "100/min", "5/h".
        retry_on: exceptions of your own that a retry may help against; any other makes the event a dead letter.

    Raises:
        ConfigurationError: a service or method is unknown, a string is given in place of a tuple, a host or a limit is
            wrong, `retry_on` has something else than exceptions, or `@router.register` is below.
    """
    properties, wrong_reads = read_declared_properties(reads)
    methods, wrong_methods = read_declared_methods(may)
    limits, wrong_limits = read_run_limits(timeout_s, retries, concurrency, rate)
    exceptions, wrong_exceptions = read_retried_exceptions(retry_on)
    hosts, wrong_hosts = read_declared_hosts(calls)
    flag: object = each_event  # a handler's author may have written anything
    wrong_flag = () if isinstance(flag, bool) else ("`each_event` takes True or False.",)
    place = _caller_place()
    for fault in (*wrong_reads, *wrong_methods, *wrong_limits, *wrong_exceptions, *wrong_hosts, *wrong_flag):
        _refuse(f"{place}: {fault}")
    declared = Uses(properties, methods, each_event, limits, exceptions, hosts)

    def declare(function: Handler) -> Handler:
        if hasattr(function, "__spokes_registered__"):
            _refuse(f"{place}: {_name_of(function)}: put @uses below @router.register.")
        if hasattr(function, "__spokes_uses__"):
            _refuse(
                f"{place}: {_name_of(function)} has two @uses, and only one would count: declare everything in one."
            )
        with suppress(AttributeError):  # of a callable without attributes, which `register` refuses
            function.__spokes_uses__ = declared  # type: ignore[attr-defined]  # read by register
        return function

    return declare


class Router:
    """Handlers by the event type they are registered for, or by event type and property.

    The handlers of the most specific registration process an event, in the order in which they were registered.
    `has_shared_events` is whether a registration has more than one handler.
    """

    fetch = DeprecatedAlias("match")
    claims = DeprecatedAlias("registrations")

    def __init__(self, *others: "Router") -> None:
        """Combine `others` into one router; their order is the order in which the handlers of one event start.

        Raises:
            ConfigurationError: two handlers have the same name, or something else than a router is given.
        """
        self.has_shared_events = False
        self._routes: dict[str, tuple[Route, ...]] = {}
        self._by_name: dict[str, Route] = {}
        self._matched: set[str] = set()
        self._cached_match = lru_cache(_CACHE_SIZE)(self._match)
        parts: tuple[object, ...] = others  # a handler's author may have written anything
        for other in parts:
            if not isinstance(other, Router):
                kind = type(other).__name__
                _refuse(f"{_caller_place()}: Router(...) combines routers, such as contacts.router, and no {kind}.")
                continue
            for registration, routes in other._routes.items():  # noqa: SLF001 - it is our own class
                for route in routes:
                    self._add(registration, route)

    def register(self, event_type: str, *, property: str | None = None) -> Callable[[Handler], Handler]:  # noqa: A002 - HubSpot's own word
        """Register the decorated coroutine for an event type.

        Args:
            event_type: `contact.creation`, for both dialects; `object.creation` for every object type, and
                `2-1234.creation` for a custom one.
            property: register only for changes of this property.

        Raises:
            ConfigurationError: no event matches the registration, the function is registered for it already, another
                handler has its name, or it is not a coroutine function of two parameters.
        """
        place = _caller_place()
        try:
            registration = registration_key(event_type, property)
        except ValueError as error:
            _refuse(f"{place}: {error}")
            registration = ""

        def register(function: Handler) -> Handler:
            if fault := _handler_fault(function):
                _refuse(f"{place}: {fault}")
                return function
            function.__spokes_registered__ = True  # type: ignore[attr-defined]  # read by uses
            if registration:
                name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
                declared = getattr(function, "__spokes_uses__", Uses())
                self._add(registration, Route(name, function, declared, _place_of_function(function)))
            return function

        return register

    def match(self, event: Event) -> Route | None:
        """Return the first route for `event`; None if no handler is registered."""
        name = event.property_name if event.kind == "propertyChange" else None  # other kinds may carry any text there
        routes = self._cached_match(event.object_type, event.kind, name)
        return routes[0] if routes else None

    def match_all(self, event: Event) -> tuple[Route, ...]:
        """Return the routes of the most specific registration that `event` matches, in the order of registration."""
        name = event.property_name if event.kind == "propertyChange" else None  # as in `match`
        return self._cached_match(event.object_type, event.kind, name)

    @property
    def hosts(self) -> dict[str, HostLimits]:
        """The hosts that handlers call, by origin, with the limits that hold for all handlers."""
        return self._merge_hosts()[0]

    @property
    def registrations(self) -> frozenset[str]:
        """All registrations: event types, and `type:property` for single properties."""
        return frozenset(self._routes)

    def sent_by_hubspot(self) -> "Router":
        """Return a router with the registrations that events of HubSpot match, without those for events of our own."""
        router = Router()
        for registration, routes in self._routes.items():
            if not registration.startswith(f"{PORTAL}."):
                router._routes[registration] = routes
                router._by_name |= {route.name: route for route in routes}
        return router

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all handlers, sorted."""
        return tuple(sorted(self._by_name))

    @property
    def longest_timeout_s(self) -> float:
        """The longest time-out that a handler declares; 0 without one."""
        return max((route.uses.limits.timeout_s or 0.0 for _, route in self), default=0.0)

    @property
    def matched_registrations(self) -> frozenset[str]:
        """The registrations that an event has matched since the process started."""
        return frozenset(self._matched)

    def __iter__(self) -> Iterator[tuple[str, Route]]:
        """Iterate over registrations and their routes, sorted by registration; one with two handlers comes twice."""
        return ((name, route) for name, routes in sorted(self._routes.items()) for route in routes)

    def _match(self, object_type: str, kind: str, property_name: str | None) -> tuple[Route, ...]:
        for event_type in (f"{object_type}.{kind}", f"object.{kind}"):
            for registration in (f"{event_type}:{property_name}", event_type):
                if routes := self._routes.get(registration):
                    self._matched.add(registration)  # only on a cache miss
                    return routes
        return ()

    def _merge_hosts(self) -> tuple[dict[str, HostLimits], list[str]]:
        return merge_hosts((route.place, route.uses.calls) for _, route in self)

    def _add(self, registration: str, route: Route) -> None:
        self._cached_match.cache_clear()
        registered = self._routes.get(registration, ())
        if any(other is route for other in registered):  # two of the combined routers contain the same one
            return
        if any(other.function is route.function for other in registered):
            _refuse(f"{route.place}: {route.name} is registered twice for {registration}.")
            return
        namesake = self._by_name.setdefault(route.name, route)
        if namesake.function is not route.function:
            _refuse(
                f"Two handlers are called {route.name}: {namesake.place} and {route.place}. The name of a handler is "
                "that of its file and function: rename one of them."
            )
            return
        self._routes[registration] = (*registered, route)
        self.has_shared_events = self.has_shared_events or bool(registered)


def load_router(package: str) -> Router:
    """Import the package that HANDLERS names and return its ROUTER.

    Raises:
        ConfigurationError: it cannot be imported, has no ROUTER, or registers what can never match: a sentence each.
    """
    router: object = None
    loaded_before = frozenset(sys.modules)
    folder = from_current_folder(package.partition(".")[0])
    with folder, _collected_faults() as faults, collected_settings_faults() as wrong_settings:
        try:
            module = importlib.import_module(package)
            router = getattr(module, "ROUTER", None)
        except ConfigurationError as error:
            faults.extend(error.problems)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code runs, and may raise anything
            if _may_lack_handlers(package, error):
                log.warning("no_handlers", explanation=NO_HANDLERS)
                return Router()
            if not wrong_settings:  # fields with faults are missing
                faults.append(import_fault(package, error))
        else:
            if not isinstance(router, Router):
                faults.append(no_router(package, module))
            else:
                faults.extend(router._merge_hosts()[1])  # noqa: SLF001 - it is our own class
        read_settings_of(package)
        faults.extend(wrong_settings)
    if faults or not isinstance(router, Router):
        _unload(package, loaded_before)  # or the next call would find the module, whose faults are reported already
        raise ConfigurationError(list(dict.fromkeys(faults)))
    return router


@contextmanager
def _collected_faults() -> Iterator[list[str]]:
    """Collect the faults of the registrations and declarations that are made inside the block."""
    faults: list[str] = []
    token = _faults.set(faults)
    try:
        yield faults
    finally:
        _faults.reset(token)


def _refuse(fault: str) -> None:
    """Add a fault to those of the package that is being loaded.

    Raises:
        ConfigurationError: none is being loaded.
    """
    faults = _faults.get()
    if faults is None:
        raise ConfigurationError([fault])
    faults.append(fault)


def _may_lack_handlers(package: str, error: BaseException) -> bool:
    """Return whether HANDLERS is not set, nothing has its default name, and no production would lose its handlers."""
    is_default = package == DEFAULT_PACKAGE and not os.environ.get("HANDLERS")
    return is_default and is_missing(package, error) and not is_production(os.environ)


def _unload(package: str, loaded_before: frozenset[str]) -> None:
    """Forget the modules of a package that were not loaded before; HANDLERS may name a library that others use."""
    for name in [name for name in sys.modules.keys() - loaded_before if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


def _caller_place() -> str:
    """Return file and line of the statement that called the caller."""
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to the caller's line
    return f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}"


def _place_of_function(function: Handler) -> str:
    code = inspect.unwrap(function).__code__
    return f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"


def _name_of(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _handler_fault(function: object) -> str:
    """Return why a decorated object cannot be a handler, the empty text if it can."""
    name = _name_of(function)
    if not inspect.isfunction(function):
        return f"{name}: a handler is a function, `async def {name}(event, tools)`, outside of any class."
    if inspect.isasyncgenfunction(function):
        return f"{name}: a handler does not yield: use await and return."
    if not inspect.iscoroutinefunction(function):
        return f"{name}: a handler must be a coroutine, `async def {name}(event, tools)`."
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError:
        return f"{name}{signature}: a handler is called with two arguments: `async def {name}(event, tools)`."
    return ""
