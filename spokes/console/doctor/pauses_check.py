"""Check for paused portals, kinds of calls and handlers, and how many deliveries wait for the end of each pause."""

from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, warning
from spokes.core.settings import Settings
from spokes.queue.held_deliveries import ALL_CALLS, Calls, HeldDeliveries
from spokes.queue.pauses.call_pauses import CallPause, CallPauses
from spokes.queue.pauses.portal_pauses import PortalPause, PortalPauses

TOPIC: Final = "pauses"


async def check_pauses(settings: Settings, redis: Redis) -> list[Finding]:
    """Return a finding for each pause."""
    try:
        portals = await PortalPauses(redis).list()
        calls = await CallPauses(redis).list()
        counts = await HeldDeliveries(redis).counts()
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    sentences = {
        Calls(portal_id, ALL_CALLS): _portal_sentence(portal_id, pause) for portal_id, pause in portals.items()
    }
    sentences |= {pause.calls: _calls_sentence(pause) for pause in calls}
    return [_finding(calls, sentence, counts.get(calls, 0), settings.max_held) for calls, sentence in sentences.items()]


def _portal_sentence(portal_id: int, pause: PortalPause) -> str:
    return (
        f"Portal {portal_id} is paused ({pause.reason}): its events stay queued. Fix the cause, then run "
        f"`spokes resume {portal_id}`."
    )


def _calls_sentence(pause: CallPause) -> str:
    if pause.handler:
        return (
            f"Handler {pause.handler} of portal {pause.portal_id} is paused: its events stay queued. Run "
            f"`spokes resume {pause.portal_id} --handler {pause.handler}` when it may continue."
        )
    failing = f"The host {pause.host} fails calls" if pause.host else f"HubSpot fails calls {pause.kind}"
    end = "at its time" if pause.failed_probes is None else f"when {pause.host or 'HubSpot'} answers one of them"
    return (
        f"{failing} of portal {pause.portal_id} ({pause.reason}): events that need them wait, all others run. The "
        f"pause ends by itself {end}."
    )


def _finding(calls: Calls, sentence: str, count: int, max_held: int) -> Finding:
    waiting = f" Deliveries that wait for the end of the pause: {count:,}."
    refused = f" MAX_HELD is {max_held:,}, so the portal's requests are refused." if count >= max_held else ""
    return warning(TOPIC, sentence + waiting + refused, portal_id=calls.portal_id, calls=calls.kind, held=count)
