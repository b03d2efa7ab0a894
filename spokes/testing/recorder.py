"""Records what handlers do in a test: their runs, errors, and calls of `tools`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import isawaitable, iscoroutine
from typing import Any, Final, Protocol

from spokes.core.events import Event
from spokes.crm.associations import Associations
from spokes.crm.object_types import plural
from spokes.crm.objects import Objects
from spokes.crm.privacy import Privacy
from spokes.crm.services import Services
from spokes.routing import Handler, Router
from spokes.testing.event_loop.handler_tasks import HandlerTasks, running_handler
from spokes.testing.event_loop.unawaited_calls import UnawaitedCalls
from spokes.tools import Tools, ToolSource

_calls_of_run: Final[ContextVar[UnawaitedCalls | None]] = ContextVar("calls_of_run", default=None)


@dataclass(slots=True)
class HandlerRun:
    """One run of one handler: the calls of `tools` that it made, and the exception that it raised."""

    handler: str
    calls: list[str] = field(default_factory=list)
    error: BaseException | None = None
    unawaited: list[str] = field(default_factory=list)  # a sentence for each call without await


class CallWatch(Protocol):
    """Awaited around every call of `tools`; `before_call` returns the number of the call."""

    async def before_call(self, name: str) -> int:
        """Await what is to happen before a call."""

    async def after_call(self, name: str, number: int) -> None:
        """Await what is to happen after it."""


@dataclass(slots=True)
class Recorder:
    """The handler runs of a test, in order. `watch` may interrupt them at every call of `tools`."""

    runs: list[HandlerRun] = field(default_factory=list)
    watch: CallWatch | None = None

    def observe(self, router: Router) -> Router:
        """Return a router whose handlers are recorded."""
        functions: dict[Handler, Handler] = {}  # a handler may be registered for several event types

        observed = Router()
        for registration, route in router:
            function = functions.setdefault(route.function, self._recorded(route.name, route.function))
            observed._add(registration, replace(route, function=function))  # noqa: SLF001 - as `register` does
        return observed

    def _recorded(self, name: str, function: Handler) -> Handler:
        @wraps(function)
        async def run(event: Event, tools: Tools) -> None:
            run = HandlerRun(name)
            self.runs.append(run)
            self._observe_tools(tools, run)
            tasks = HandlerTasks(name)
            calls = UnawaitedCalls(tasks, run.unawaited)
            token, calls_token = running_handler.set(tasks), _calls_of_run.set(calls)
            try:
                await function(event, tools)
            except BaseException as error:
                run.error = error
                raise
            else:
                tasks.handler_returned()
            finally:
                calls.handler_ended()
                running_handler.reset(token)
                _calls_of_run.reset(calls_token)

        return run

    def _observe_tools(self, tools: Any, run: HandlerRun) -> None:
        """Replace the members of `tools` in place: the worker keeps reading its own fields of it."""
        tools._source = _ObservedSource(tools._source, self, run)  # noqa: SLF001 - the kit does what the worker does
        tools.current_value = self._wrapped("current_value", tools.current_value, run)

    def _wrapped(self, name: str, function: Callable[..., Any], run: HandlerRun) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            if isawaitable(result):
                work = self._awaited(name, result, run)
                if calls := _calls_of_run.get():
                    calls.add(work, result, name)
                return work
            return self._iterated(name, result, run) if isinstance(result, AsyncIterator) else result

        return call

    async def _awaited(self, name: str, result: Awaitable[Any], run: HandlerRun) -> Any:
        watch = self.watch
        try:
            number = await self._begin(name, run)
        except BaseException:
            if iscoroutine(result):  # the call is not made
                result.close()
            raise
        value = await result
        if watch is not None:
            await watch.after_call(name, number)
        return value

    async def _iterated(self, name: str, items: AsyncIterator[Any], run: HandlerRun) -> AsyncIterator[Any]:
        watch, number = self.watch, await self._begin(name, run)
        async for item in items:
            yield item
        if watch is not None:
            await watch.after_call(name, number)

    async def _begin(self, name: str, run: HandlerRun) -> int:
        if name != "current_value":  # it is no call of HubSpot
            run.calls.append(name)
        return 0 if self.watch is None else await self.watch.before_call(name)


class _ObservedSource:
    """The source of the tools of one handler run, whose calls are recorded."""

    def __init__(self, source: ToolSource, recorder: Recorder, run: HandlerRun) -> None:
        self._source = source
        self._recorder = recorder
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def crm(self) -> Any:
        """Return the recorded services."""
        return _ObservedServices(self._source.crm(), self._recorder, self._run)

    def http(self) -> Any:
        """Return the recorded HTTP calls."""
        return _ObservedService("http", self._source.http(), self._recorder, self._run)

    def once(self) -> Any:
        """Return the recorded guard."""
        return self._recorder._wrapped("once", self._source.once(), self._run)  # noqa: SLF001 - of this module

    async def purge(self) -> None:
        """Purge, recorded."""
        await self._recorder._wrapped("purge", self._source.purge, self._run)()  # noqa: SLF001 - of this module


class _ObservedServices:
    """The services of one handler run, whose calls are recorded by the names that `@uses` declares."""

    def __init__(self, services: Services, recorder: Recorder, run: HandlerRun) -> None:
        self._services = services
        self._recorder = recorder
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return self._observed(name, getattr(self._services, name))

    def objects(self, object_type: str) -> Any:
        """Return the recorded service of an object type."""
        return self._observed(plural(object_type), self._services.objects(object_type))

    def _observed(self, name: str, service: Any) -> Any:
        if isinstance(service, Objects | Associations | Privacy):
            return _ObservedService(name, service, self._recorder, self._run)
        return service


class _ObservedService:
    def __init__(self, name: str, service: Any, recorder: Recorder, run: HandlerRun) -> None:
        self._name = name
        self._service = service
        self._recorder = recorder
        self._run = run

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._service, name)
        if not callable(member):
            return member
        return self._recorder._wrapped(f"{self._name}.{name}", member, self._run)  # noqa: SLF001 - of this module
