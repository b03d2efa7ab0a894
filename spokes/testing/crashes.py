"""Ends a worker at one call of `tools`, as if its process had been killed there."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from spokes.testing.deployment import KitDeployment

_MAX_CALLS: Final = 200  # of one event's handlers


@dataclass(slots=True)
class CrashPoint:
    """One point of a handler's run: before or after its call number `number`, counted from 1 over all handlers.

    `name` is the name of that call, once it has happened; `has_crashed` is set when it has.
    """

    number: int
    is_after: bool
    name: str = ""
    has_crashed: asyncio.Event = field(default_factory=asyncio.Event)
    _count: int = 0

    def __str__(self) -> str:
        return f"{'after' if self.is_after else 'before'} call {self.number} ({self.name})"

    async def before_call(self, name: str) -> int:
        """Count a call; return its number, or crash."""
        self._count += 1
        number = self._count
        await self._crash_at(number, name, is_after=False)
        return number

    async def after_call(self, name: str, number: int) -> None:
        """Crash if this call is the one."""
        await self._crash_at(number, name, is_after=True)

    async def _crash_at(self, number: int, name: str, *, is_after: bool) -> None:
        if self.has_crashed.is_set():  # code that still runs in a dead process: it does nothing more
            raise asyncio.CancelledError
        if (number, is_after) == (self.number, self.is_after):
            self.name = name
            self.has_crashed.set()
            await asyncio.Event().wait()


def crash_points() -> Iterator[CrashPoint]:
    """Yield a point before and one after each call, for as long as the handler gets to them."""
    for number in range(1, _MAX_CALLS + 1):
        for is_after in (False, True):
            yield CrashPoint(number, is_after)


async def work_with_crash(deployment: KitDeployment, point: CrashPoint) -> bool:
    """Run what is queued; end the worker at `point`, and let another one do the rest. Return whether it got there."""
    deployment.recorder.watch = point
    work = asyncio.ensure_future(deployment.work())
    crash = asyncio.ensure_future(point.has_crashed.wait())
    try:
        await asyncio.wait({work, crash}, return_when=asyncio.FIRST_COMPLETED)
        if point.has_crashed.is_set():
            work.cancel()
            await asyncio.wait({work})
            await deployment.kill_workers()
            deployment.recorder.watch = None
            await deployment.work()
        else:
            work.result()
    finally:
        crash.cancel()
        deployment.recorder.watch = None
    return point.has_crashed.is_set()
