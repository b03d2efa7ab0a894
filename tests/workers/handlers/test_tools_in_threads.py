"""A handler that uses its tools in a thread: their connections and batches belong to the worker's event loop."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.queue.dead_letters import DeadLetters
from spokes.routing import uses
from spokes.tools import Tools
from tests.workers.harness import PORTAL, Harness, change

USES: dict[str, Callable[[Tools], Coroutine[object, object, object]]] = {
    "crm": lambda tools: tools.crm.contacts.get("1"),
    "http": lambda tools: tools.http.get("https://erp.example.com/customers"),
    "once": lambda tools: tools.once("note", lambda: asyncio.sleep(0, "1")),
    "purge": lambda tools: tools.purge(),
}


@pytest.mark.parametrize("name", USES)
async def test_tools_in_another_thread_are_an_error_of_that_name(harness: Harness, redis: Redis, name: str) -> None:
    async def in_thread(tools: Tools) -> None:
        await USES[name](tools)

    @harness.router.register("contact.propertyChange", property="threaded")
    @uses(reads={"contacts": ("email",)})
    async def use(event: Event, tools: Tools) -> None:
        await asyncio.to_thread(lambda: asyncio.run(in_thread(tools)))

    await harness.run((change("x", 1, "threaded"),))
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    assert letter.reason == "handler_error:ToolsInOtherThread"
    assert letter.failure["error_at"].startswith("tests/workers/handlers/test_tools_in_threads.py:")
