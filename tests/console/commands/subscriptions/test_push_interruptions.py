"""`subscriptions apply` that meets others' changes, HubSpot's limits, or its own end."""

import asyncio
import sys
from dataclasses import replace

import pytest

from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Latency, Subscription
from spokes.simulator.demo import clean_environment
from tests.console.commands.subscriptions.push_app import App

MANY = tuple(f"contact.propertyChange:p{number}" for number in range(6))
SLOW = Latency(median_ms=60_000)


async def killed_at(app: App, post: int, *, after_effect: bool) -> None:
    """Run an apply in a process of its own, and kill it while its call number `post` is on its way."""
    fault = Fault(method="POST", path="*/subscriptions", nth=frozenset({post}), latency=SLOW)
    app.sim.faults.add(replace(fault, after_effect=True, status=502) if after_effect else fault)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "spokes", "subscriptions", "apply", "--yes",
        env=clean_environment(app.environ), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            while len(app.names) < post - 1 + after_effect or not app.sim.faults.active[0].hits:  # noqa: ASYNC110 - the one waited for is another process
                await asyncio.sleep(0.02)
    finally:
        process.kill()
        await process.wait()
    app.sim.faults.clear()


@pytest.mark.slow
@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("post", [1, 3])
async def test_killed_apply_is_completed_by_the_next_and_owns_what_it_created(
    app: App,
    post: int,
    after_effect: bool,
) -> None:
    app.sim.subscriptions.add(Subscription("company.creation"))
    app.register(*MANY)
    await killed_at(app, post, after_effect=after_effect)
    assert (await app.apply()).returncode == 0
    assert app.names == sorted(["company.creation", *MANY])
    assert await app.changes() == []
    app.register("ticket.creation")
    await app.apply()
    assert app.names == ["company.creation", "ticket.creation"]


async def test_subscription_that_others_create_meanwhile_stays_theirs(app: App) -> None:
    app.sim.faults.add(Fault(method="PUT", path="*/settings", latency=Latency(median_ms=500)))
    app.register("deal.creation", "ticket.creation")

    async def create_as_others() -> None:
        while not app.sim.faults.active[0].hits:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        app.sim.subscriptions.add(Subscription("deal.creation", active=False))

    others = asyncio.create_task(create_as_others())
    done = await app.apply()
    await others
    assert (done.returncode, app.names) == (0, ["deal.creation", "ticket.creation"]), done
    assert app.calls()["POST subscriptions"] == 2
    assert await app.changes() == []
    app.register("company.creation")
    await app.apply()
    assert app.names == ["company.creation", "deal.creation"]


async def test_limit_that_hubspot_reaches_first_ends_the_creations(app: App) -> None:
    app.register(*MANY)
    app.sim.faults.add(Fault(method="PUT", path="*/settings", latency=Latency(median_ms=500)))

    async def fill() -> None:
        while not app.sim.faults.active[0].hits:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        for number in range(998):
            app.sim.subscriptions.add(Subscription("deal.propertyChange", f"q{number}"))

    others = asyncio.create_task(fill())
    done = await app.apply()
    await others
    assert (done.returncode, "limit" in done.stderr, "3 more subscriptions were not tried." in done.stderr) == (
        1,
        True,
        True,
    ), done
    assert len(app.sim.subscriptions.active) == 1000


async def test_refused_parts_are_named_and_the_rest_is_done(app: App) -> None:
    app.register(*MANY)
    app.sim.faults.add(Fault(method="POST", path="*/subscriptions", nth=frozenset({2, 5}), status=400))
    done = await app.apply()
    assert (done.returncode, len(app.names), "Refused: 2." in done.stderr) == (1, 4, True), done
    app.sim.faults.clear()
    assert ((await app.apply()).returncode, len(app.names)) == (0, 6)


async def test_limited_calls_end_an_apply_that_the_next_continues(app: App) -> None:
    app.register(*MANY)
    limited = frozenset(range(3, 20))
    app.sim.faults.add(Fault(method="POST", path="*/subscriptions", nth=limited, status=429, retry_after="0"))
    done = await app.apply()
    assert (done.returncode, len(app.names), "limits calls (429)" in done.stderr) == (2, 2, True), done
    app.sim.faults.clear()
    app.calls()
    assert ((await app.apply()).returncode, len(app.names)) == (0, 6)
    assert app.calls() == {"GET settings": 1, "GET subscriptions": 1, "POST subscriptions": 4}
