"""The pytest plugin: the fixture `spokes`, and the hooks that run its coroutine tests with any configuration."""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import pytest

if TYPE_CHECKING:
    from spokes.routing import Router
    from spokes.testing.kit import Spokes
    from spokes.testing.session import KitSession

_SESSION: "Final[pytest.StashKey[KitSession]]" = pytest.StashKey()
_PROBLEM: Final = pytest.StashKey[str]()  # why the kit of a test could not start
_Test: TypeAlias = Callable[..., Awaitable[None]]
_DEFAULT_PACKAGE: Final = "handlers"
_HINT: Final = (
    "\nSet it for all tests: a fixture spokes_settings in tests/conftest.py returns variables and their values."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of the kit."""
    parser.addini("spokes_handlers", "package of the handlers under test, before [tool.spokes] handlers", default="")
    parser.addini("spokes_redis", "Redis of the tests of handlers: valkey or fakeredis", default="valkey")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse a project with a package that is called like one of ours: the kit could not be imported beside it.

    Raises:
        pytest.UsageError: it has one.
    """
    from spokes.core.errors import ConfigurationError  # noqa: PLC0415 - pytest loads this module in every run
    from spokes.core.process.current_folder import check_names  # noqa: PLC0415 - as above

    try:
        for folder in {session.config.rootpath, session.config.invocation_params.dir}:
            check_names(folder)
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the tests of handlers have started."""
    if (session := config.stash.get(_SESSION, None)) is not None:
        session.close()


@pytest.fixture
def spokes_handlers(request: pytest.FixtureRequest) -> "str | Router":
    """The handlers under test: the name of a package, or a `Router`. Override this fixture to test others."""
    from spokes.core.errors import ConfigurationError  # noqa: PLC0415 - loaded only by tests that use the kit
    from spokes.core.process.project_file import handlers_of_project  # noqa: PLC0415 - as above

    configured = str(request.config.getini("spokes_handlers"))
    try:
        return configured or handlers_of_project(request.config.rootpath) or _DEFAULT_PACKAGE
    except ConfigurationError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def spokes_settings() -> Mapping[str, str]:
    """Settings of the deployment under test, by environment variable. Override this fixture to change some."""
    return {}


@pytest.fixture
def spokes_portals() -> Sequence[int]:
    """Ids of further HubSpot accounts, for `spokes.portals`. Override this fixture to have some."""
    return ()


@pytest.fixture
def spokes(
    request: pytest.FixtureRequest,
    spokes_handlers: "str | Router",
    spokes_settings: Mapping[str, str],
    spokes_portals: Sequence[int],
) -> "Iterator[Spokes]":
    """A simulated HubSpot, the receiver and a worker with your handlers, empty at the beginning of each test."""
    from spokes.core.errors import ConfigurationError  # noqa: PLC0415 - loaded only by tests that use the kit
    from spokes.testing.session import KitSession  # noqa: PLC0415 - as above

    config = request.config
    if _SESSION not in config.stash:
        config.stash[_SESSION] = KitSession(str(config.getini("spokes_redis")), config.rootpath)
    try:
        kit = config.stash[_SESSION].begin_test(spokes_handlers, spokes_settings, spokes_portals)
    except ConfigurationError as error:
        problem = f"{error}{_HINT if 'is not set' in str(error) else ''}"
        request.node.stash[_PROBLEM] = problem
        yield cast("Spokes", _Unusable(problem))
        return
    yield kit
    config.stash[_SESSION].end_test()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a test whose handlers cannot be loaded, or that leaves tasks behind."""
    if (problem := item.stash.get(_PROBLEM, "")) and isinstance(item, pytest.Function):
        pytest.fail(problem, pytrace=False)
    if isinstance(item, pytest.Function) and _is_kit_test(item):
        item.obj = _checked(item.obj, item.config.stash[_SESSION])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test that uses the kit, unless a plugin for coroutine tests runs it."""
    if not _is_kit_test(pyfuncitem) or _has_runner(pyfuncitem):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


class _Unusable:
    """A kit that could not start. A fixture that uses it fails the test."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def __getattr__(self, name: str) -> object:
        pytest.fail(self._problem, pytrace=False)


def _is_kit_test(item: pytest.Function) -> bool:
    return "spokes" in item.fixturenames and inspect.iscoroutinefunction(item.obj)


def _checked(test: _Test, session: "KitSession") -> _Test:
    """Return a test that fails if it has left tasks behind, in its own event loop or in a handler's."""

    @functools.wraps(test)
    async def run(*args: Any, **options: Any) -> None:
        before = asyncio.all_tasks()
        try:
            await test(*args, **options)
            await asyncio.sleep(0)
        except BaseException as error:
            for sentence in (session.unawaited(), await _end_left_tasks(before, session)):
                if sentence:
                    error.add_note(sentence)
            raise
        if sentence := await _end_left_tasks(before, session):
            pytest.fail(sentence, pytrace=False)
        if left_behind := await session.left_behind():
            pytest.fail(left_behind, pytrace=False)

    return run


async def _end_left_tasks(before: "set[asyncio.Task[Any]]", session: "KitSession") -> str:
    """End the tasks that a test has started and left; return a sentence about them, or nothing."""
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    if not left:
        return ""
    sentence = f"The test has left {_tasks_text(left)} behind: await it before the test ends."
    ignoring = await session.end_tasks(left)
    return f"{sentence} It ignores its cancellation: {_tasks_text(ignoring)}." if ignoring else sentence


def _tasks_text(tasks: "list[asyncio.Task[Any]]") -> str:
    from spokes.testing.event_loop.handler_tasks import task_text  # noqa: PLC0415 - loaded only by tests that use the kit

    return ", ".join(map(task_text, tasks))


def _has_runner(item: pytest.Function) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("asyncio", "anyio", "trio"))


__all__ = ["pytest_addoption", "spokes", "spokes_handlers", "spokes_settings"]
