"""A legacy public app of a test, and the commands that change its subscriptions."""

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path

from spokes.simulator.app import Simulator
from tests.support.command_line import CompletedCommand, spokes

NUMBERS = itertools.count()
HANDLER = """
from spokes import Event, Router, Tools

ROUTER = Router()

{registrations}
async def follow(event: Event, tools: Tools) -> None: ...
"""


class App:
    """The HubSpot app of a test, and the commands that change its subscriptions."""

    def __init__(self, sim: Simulator, environ: dict[str, str], folder: Path) -> None:
        self.sim = sim
        self.environ = environ
        self._folder = folder
        self.environ |= {
            "HUBSPOT_API_URL": sim.url,
            "HUBSPOT_APP_ID": str(sim.portal.config.app_id),
            "HUBSPOT_DEVELOPER_API_KEY": sim.config.developer_key,
            "PUBLIC_URL": "https://hooks.example.com",
        }

    def register(self, *registrations: str) -> None:
        """Make these the registrations of the deployment."""
        decorators = []
        for registration in registrations:
            event_type, _, name = registration.partition(":")
            decorators.append(f'@ROUTER.register("{event_type}"' + (f', property="{name}")' if name else ")"))
        package = f"subscribing_handlers_{next(NUMBERS)}"  # a module is imported once in a process
        (self._folder / f"{package}.py").write_text(HANDLER.format(registrations="\n".join(decorators)))
        self.environ["HANDLERS"] = package

    async def run(self, *arguments: str) -> CompletedCommand:
        """Run a command while the simulator, which is in this event loop, answers it."""
        return await asyncio.to_thread(spokes, self.environ, "subscriptions", *arguments)

    async def plan(self, *options: str) -> CompletedCommand:
        return await self.run("plan", *options)

    async def apply(self, *options: str) -> CompletedCommand:
        return await self.run("apply", "--yes", *options)

    async def changes(self, *options: str) -> list[str]:
        """Return the lines of the plan."""
        lines = map(json.loads, (await self.plan("--json", *options)).stdout.splitlines())
        return [f"{line['change']} {line['subject']}" for line in lines]

    def calls(self) -> Counter[str]:
        """Return how often each call was made since the last time."""
        counts = Counter(f"{call.method} {call.path.split('/', 4)[4]}" for call in self.sim.requests)
        self.sim.requests.clear()
        return counts

    @property
    def names(self) -> list[str]:
        """What the app is subscribed to."""
        return sorted(
            each.subscription_type + (f":{each.property_name}" if each.property_name else "")
            for each in self.sim.subscriptions.active
            if each.active
        )
