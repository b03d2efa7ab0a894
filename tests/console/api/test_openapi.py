"""The API against its own OpenAPI document, by schemathesis: nothing undocumented is accepted or returned."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import schemathesis
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from spokes.audit.sql import schema as tables
from spokes.audit.sql.engine import open_engine
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.api.openapi import document
from spokes.console.api.route import PREFIX
from spokes.console.api.routes import ROUTES
from spokes.console.app import create_app
from spokes.core.settings import Settings
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from tests.support.console_visitor import KEY
from tests.support.deployment import KEY as AUDIT_KEY
from tests.support.deployment import TOKEN

GONE = {"expected-statuses": ["2xx", "401", "403", "404", "409", "410"]}  # 410: the cursor's dead letter was settled
API = schemathesis.openapi.from_dict(
    document(ROUTES), config=SchemathesisConfig.from_dict({"checks": {"positive_data_acceptance": GONE}})
)
# Without the check of wrong tokens: a hundred of them in a minute are answered 429, and test_api has its own.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
    allow_header_conformance,
]
# Boundary values of each type, valid and invalid, about 1,500 requests; no random ones, so that all runs are equal.
BOUNDS = settings(
    phases=[Phase.explicit],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Served:
    """The address of the API, and a token with all roles."""

    url: str
    token: str


@pytest.fixture(scope="module")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run the console and a simulated HubSpot on a second event loop, since schemathesis blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()
    try:
        folder = str(tmp_path_factory.mktemp("openapi"))
        yield asyncio.run_coroutine_threadsafe(_serve(stack, valkey_url, folder), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(stack: AsyncExitStack, valkey_url: str, folder: str) -> Served:
    hubspot = await stack.enter_async_context(Simulator(SimulatorConfig(portals=(PortalConfig(token=TOKEN),))))
    console_settings = Settings.from_env(
        {
            "REDIS_URL": valkey_url,
            "DATA_DIR": folder,
            "AUDIT_KEY": AUDIT_KEY,
            "CONSOLE_KEY": KEY,
            "CONSOLE_RATE_LIMIT": "1000000",
            "HUBSPOT_ACCESS_TOKEN": TOKEN,
            "HUBSPOT_API_URL": hubspot.url,
        }
    )
    engine = open_engine(console_settings.database_address)
    await tables.upgrade(engine)
    await engine.dispose()
    server = await stack.enter_async_context(TestServer(create_app(console_settings)))
    return Served(
        str(server.make_url("")), ApiTokens.from_settings(console_settings).mint("schemathesis", list(Role)).token
    )


# The schema cannot express that one filter or "all": true is required.
NEEDS_MORE = {f"{PREFIX}/dead-letters/{verb}" for verb in ("replay", "discard")}


OPERATIONS = {operation.label: operation for operation in (result.ok() for result in API.get_all_operations())}


# Not `API.parametrize`: pytest 9.2 then gives all operations one name, and pytest-xdist runs only one of them.
@pytest.mark.parametrize("label", OPERATIONS)
def test_api_conforms_to_its_openapi_document(label: str, served: Served) -> None:
    sent = 0

    @BOUNDS
    def check(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        checks = [check for check in CHECKS if check is not positive_data_acceptance or case.path not in NEEDS_MORE]
        headers = {"Authorization": f"Bearer {served.token}"}
        case.call_and_validate(base_url=served.url, headers=headers, checks=checks, timeout=30)

    modes = [HypothesisTestMode.EXAMPLES, HypothesisTestMode.COVERAGE]
    config = HypothesisTestConfig(project=API.config, modes=modes)
    create_test(operation=OPERATIONS[label], test_func=check, config=config)()
    assert sent
