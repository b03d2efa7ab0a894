"""The pytest plugin: the fixture `spokes`, and the hooks that run its coroutine tests with any configuration."""

import asyncio
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from spokes.routing import Router
    from spokes.testing.kit import Spokes
    from spokes.testing.session import KitSession

_SESSION: "Final[pytest.StashKey[KitSession]]" = pytest.StashKey()
_DEFAULT_PACKAGE: Final = "handlers"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of the kit."""
    parser.addini("spokes_handlers", "package of the handlers under test, before [tool.spokes] handlers", default="")
    parser.addini("spokes_redis", "Redis of the tests of handlers: valkey or fakeredis", default="valkey")


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
def spokes(
    request: pytest.FixtureRequest, spokes_handlers: "str | Router", spokes_settings: Mapping[str, str]
) -> "Iterator[Spokes]":
    """A simulated HubSpot, the receiver and a worker with your handlers, empty at the beginning of each test."""
    from spokes.core.errors import ConfigurationError  # noqa: PLC0415 - loaded only by tests that use the kit
    from spokes.testing.session import KitSession  # noqa: PLC0415 - as above

    config = request.config
    if _SESSION not in config.stash:
        config.stash[_SESSION] = KitSession(str(config.getini("spokes_redis")), config.rootpath)
    try:
        kit = config.stash[_SESSION].begin_test(spokes_handlers, spokes_settings)
    except ConfigurationError as error:
        pytest.fail(str(error), pytrace=False)
    yield kit
    if left_behind := config.stash[_SESSION].end_test():
        pytest.fail(left_behind, pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test that uses the kit, unless a plugin for coroutine tests runs it."""
    if "spokes" not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if _has_runner(pyfuncitem):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


def _has_runner(item: pytest.Function) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("asyncio", "anyio", "trio"))


__all__ = ["pytest_addoption", "spokes", "spokes_handlers", "spokes_settings"]
