"""Workers that die between the handlers of one event: nothing is lost, and nothing settled is repeated."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NoReturn

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from spokes.audit.records import TERMINAL, Action, AuditRecord
from spokes.core import clock
from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.handlers.several_handlers import SeveralHandlers
from tests.workers.harness import Harness, change
from workers.delivery.run_delivery import WorkerParts

HANDLERS = ("first", "second", "third")
NAMES = [f"contacts.{name}" for name in HANDLERS]


class DyingWorkers(SeveralHandlers):
    """Workers of which each dies after it has carried out some settlements; the next takes over when its leases end."""

    def __init__(self, harness: Harness, *, each_event: Iterable[str]) -> None:
        super().__init__(harness, *HANDLERS, each_event=each_event)
        self.does = dict.fromkeys(HANDLERS, _wait)  # so that the handlers of one event are settled one by one
        self.repeated: list[tuple[str, str, str | None, int]] = []
        self._checked = 0
        self._settled: set[tuple[str, int | None]] = set()  # handlers and events, when the latest worker started

    async def ends(self) -> list[AuditRecord]:
        """Return the records of final outcomes."""
        records = await recorded(self.redis)
        return [record for record in records if record.action is Action.EVENT and record.outcome in TERMINAL]

    async def run_until_done(self, deaths: list[int]) -> None:
        for settlements in deaths:
            died = asyncio.Event()
            _die_after(self.parts, settlements, died)
            running = asyncio.create_task(self._run_all())
            await asyncio.wait([running, waiting := asyncio.create_task(died.wait())], return_when="FIRST_COMPLETED")
            waiting.cancel()
            running.cancel()
            await asyncio.wait([running])
            self.parts.timeouts.is_closing = True
            await self.parts.lane_pool.close()
            async for lane in self.redis.scan_iter("spokes:*:lane:*"):
                await self.redis.delete(lane)
            self._find_repeated()
            self._settled = {(record.handler.partition(".")[2], record.occurred_at) for record in await self.ends()}
            self.start(*HANDLERS)
        await self._run_all()
        self._find_repeated()
        await self.parts.close()

    def _find_repeated(self) -> None:
        """Add the calls for what was settled before the calling worker started; the value of an event is its time."""
        calls, self._checked = self.calls[self._checked :], len(self.calls)
        self.repeated += [call for call in calls if (call[0], int(call[2] or 0)) in self._settled]

    async def _run_all(self) -> None:
        while await self.run_queued():
            pass


async def _wait(event: Event, tools: Tools) -> None:
    await asyncio.sleep(0.003)


def _die_after(parts: WorkerParts, settlements: int, died: asyncio.Event) -> None:
    """Let the worker carry out as many settlements; from then on it does nothing more, as a killed process."""
    commit, left = parts.settlement._group_commit._commit, settlements

    async def commit_or_die(requests: list[Any]) -> Any:
        nonlocal left
        left -= 1
        return await commit(requests) if left >= 0 else await _hang()

    async def _hang() -> NoReturn:
        died.set()
        await asyncio.Event().wait()
        raise AssertionError

    parts.settlement._group_commit._commit = commit_or_die


@given(
    events=st.lists(st.integers(1, 2), min_size=1, max_size=4),
    failures=st.dictionaries(st.sampled_from(HANDLERS), st.lists(st.booleans(), max_size=3)),
    deaths=st.lists(st.integers(0, 4), max_size=3),
    each_event=st.sets(st.sampled_from(HANDLERS)),
)
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_handler_of_each_event_ends_once_despite_deaths(
    harness: Harness, events: list[int], failures: dict[str, list[bool]], deaths: list[int], each_event: set[str]
) -> None:
    await harness.redis.flushdb()
    workers = DyingWorkers(harness, each_event=each_event)
    for handler, fails in failures.items():
        workers.errors[handler] = [RetryLater(0.0) if fail else LookupError() for fail in fails]
    now_ms = clock.now_ms()
    await harness.queue(*(change(str(at), at, object_id=id_) for at, id_ in enumerate(events, start=now_ms)))
    await workers.run_until_done(deaths)
    ends = Counter((record.event_key, record.handler) for record in await workers.ends())
    assert (set(ends.values()), workers.repeated) == ({1}, [])
    handlers: defaultdict[str, list[str]] = defaultdict(list)
    for event_key, handler in ends:
        handlers[event_key].append(handler)
    assert len(handlers) == len(events)
    assert all(sorted(names) == sorted(NAMES) for names in handlers.values())
    assert not await workers.job_ids()
