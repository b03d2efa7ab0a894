"""`queue`: show the deliveries in the queue, and those that workers are running."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

from redis.asyncio import Redis

from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, print_json, print_message, print_table
from spokes.console.queries.queue import MAX_DELIVERIES_READ, Queue, WaitingDelivery, queue_status, waiting_deliveries
from spokes.console.queries.queue_classes import QueueClass, queue_classes
from spokes.core import clock
from spokes.core.settings import Settings
from spokes.queue.held_deliveries import ALL_CALLS, Calls, HeldDeliveries
from spokes.queue.running_deliveries import MIN_AGE_S, RunningDelivery, running_deliveries


class _State(NamedTuple):
    status: Queue
    classes: tuple[QueueClass, ...]
    held: dict[Calls, int]  # numbers of deliveries
    in_progress: list[dict[str, object]]


def queue(as_json: JsonOption = False) -> None:
    """Show how many deliveries are due, scheduled, held by a pause and in progress; the last with age and handlers.

    The handlers are those that are running now; a delivery claimed a few seconds ago lists none.

    Exit code 1 when a delivery is overdue: in progress for five times HANDLER_TIMEOUT_S, at least a minute.

    Example: spokes queue
    """
    status, classes, held, rows = asyncio.run(_read(Settings.from_env()))
    if as_json:
        counts = {"due": status.due, "scheduled": status.scheduled, "in_progress": len(rows)}
        held_rows = [{**calls._asdict(), "deliveries": count} for calls, count in held.items()]
        by_class = {each.priority: asdict(each) for each in classes}
        print_json(
            {**counts, "oldest_due_s": round(status.oldest_due_s, 1), "classes": by_class, "held": held_rows}, *rows
        )
    else:
        oldest = f" (the oldest for {status.oldest_due_s:,.0f} s)" if status.due else ""
        print(f"{status.due:,} due{oldest}, {status.scheduled:,} scheduled for later, {len(rows):,} in progress.")
        for each in classes:
            oldest = f" (the oldest for {each.oldest_waiting_s:,.0f} s)" if each.waiting else ""
            later = f"{each.scheduled:,} scheduled for later, {each.running:,} running"
            print(f"  {each.priority}: {each.waiting:,} waiting{oldest}, {later}")
        for calls, count in held.items():
            paused = "of the portal" if calls.kind == ALL_CALLS else f"of {calls.kind}"
            print(f"  portal {calls.portal_id}: {count:,} of those scheduled wait for the end of a pause {paused}")
        if rows:
            print_table(("Delivery", "Events", "In progress (s)", "Handlers", "Worker", ""), map(_table_row, rows))
    if any(row["overdue"] for row in rows):
        print_message("A delivery is overdue. Restart the worker that runs it: the delivery then runs elsewhere.")
        raise SystemExit(1)


async def _read(settings: Settings) -> _State:
    async with operator_redis(settings) as redis:
        status = await queue_status(redis, None)
        return _State(
            status, await queue_classes(redis), await HeldDeliveries(redis).counts(), await _in_progress(redis)
        )


async def _in_progress(redis: Redis) -> list[dict[str, object]]:
    """Return a row for each delivery in progress, the longest running first."""
    published = await running_deliveries(redis)
    first = await waiting_deliveries(redis, None, limit=MAX_DELIVERIES_READ)
    return list(in_progress_rows(published, first, clock.now_ms()))


def in_progress_rows(
    published: Iterable[RunningDelivery], first: Iterable[WaitingDelivery], now_ms: int
) -> Iterable[dict[str, object]]:
    """Yield the published deliveries, then those that are too young to be published. Pure."""
    claimed = {job.delivery.id: len(job.delivery.entries) for job in first if job.in_progress}
    for run in published:
        age_s = round((now_ms - run.started_at) / 1000)
        yield {
            "delivery_id": run.id, "events": claimed.pop(run.id, None), "age_s": age_s,
            "handlers": list(run.handlers), "worker": run.worker, "overdue": run.is_overdue,
        }  # fmt: skip
    for delivery_id, events in claimed.items():
        yield {
            "delivery_id": delivery_id, "events": events, "age_s": None, "handlers": [], "worker": "", "overdue": False,
        }  # fmt: skip


def _table_row(row: dict[str, object]) -> tuple[object, ...]:
    handlers = row["handlers"]
    names = ", ".join(handlers) if isinstance(handlers, list) else ""
    age = f"under {MIN_AGE_S + 5:.0f}" if row["age_s"] is None else row["age_s"]
    events = "" if row["events"] is None else row["events"]
    return row["delivery_id"], events, age, names, row["worker"], "overdue" if row["overdue"] else ""
