"""The API against its own description, by schemathesis: what is not described is neither taken nor given."""

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

GONE = {"expected-statuses": ["2xx", "401", "403", "404", "409", "410"]}  # 410: a page that follows nothing any more
API = schemathesis.openapi.from_dict(
    document(ROUTES), config=SchemathesisConfig.from_dict({"checks": {"positive_data_acceptance": GONE}})
)
# Without the check that tries wrong tokens: a hundred of them in a minute are 429, and test_console_api tries its own.
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
# The values at the bounds of each type, right and wrong, some 1,500 requests; none by chance, so all runs are alike.
BOUNDS = settings(
    phases=[Phase.explicit],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the API is, and a token to all of it."""

    url: str
    token: str


@pytest.fixture(scope="module")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The console and a simulated HubSpot on a loop of their own, since schemathesis waits for each answer."""
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
    house = Settings.from_env(
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
    engine = open_engine(house.database_address)
    await tables.upgrade(engine)
    await engine.dispose()
    server = await stack.enter_async_context(TestServer(create_app(house)))
    return Served(str(server.make_url("")), ApiTokens.from_settings(house).mint("schemathesis", list(Role)).token)


# That one filter must be given, or "all": true, is told in words alone.
NEEDS_MORE = {f"{PREFIX}/dead-letters/{verb}" for verb in ("replay", "discard")}


@API.parametrize()
@BOUNDS
def test_api_conforms_to_its_openapi_document(case: schemathesis.Case, served: Served) -> None:
    checks = [one for one in CHECKS if one is not positive_data_acceptance or case.path not in NEEDS_MORE]
    headers = {"Authorization": f"Bearer {served.token}"}
    case.call_and_validate(base_url=served.url, headers=headers, checks=checks, timeout=30)
