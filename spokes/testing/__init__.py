"""The test kit for handlers: `async def test_...(spokes)`. It drives a simulated HubSpot, the receiver and a worker.

pytest loads `spokes.testing.plugin` by itself where Spokes is installed. No other package imports this one.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spokes.testing.fake_hosts import FakeHosts, HttpCall, NoResponse
    from spokes.testing.hubspot import SimulatedHubSpot, SimulatedObjects, SimulatedRecord, SimulatedSchema
    from spokes.testing.kit import Spokes
    from spokes.testing.run import Run

__all__ = [
    "FakeHosts", "HttpCall", "NoResponse", "Run", "SimulatedHubSpot", "SimulatedObjects", "SimulatedRecord",
    "SimulatedSchema", "Spokes",
]  # fmt: skip

_MODULE_OF = {
    "FakeHosts": "spokes.testing.fake_hosts",
    "HttpCall": "spokes.testing.fake_hosts",
    "NoResponse": "spokes.testing.fake_hosts",
    "Run": "spokes.testing.run",
    "SimulatedHubSpot": "spokes.testing.hubspot",
    "SimulatedObjects": "spokes.testing.hubspot",
    "SimulatedRecord": "spokes.testing.hubspot",
    "SimulatedSchema": "spokes.testing.hubspot",
    "Spokes": "spokes.testing.kit",
}


if not TYPE_CHECKING:  # or type checkers would accept any name

    def __getattr__(name: str) -> Any:
        """Load a name on first use: pytest loads the plugin in every run, also in those without tests of handlers."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'spokes.testing' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
