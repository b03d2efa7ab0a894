"""List the registrations that no event has matched for days: their webhook subscription may be missing."""

from collections.abc import Iterator, Mapping
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.console.doctor.findings import Finding, info, warning
from spokes.core import clock
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.queue.registration_times import registered_without_event
from spokes.routing import NO_HANDLERS, Router

TOPIC: Final = "registrations"
_QUIET_DAYS: Final = 7  # a registration may wait this long for its first event
_DAY_MS: Final = 86_400_000


async def check_registrations(settings: Settings, redis: Redis, router: Router) -> list[Finding]:
    """Read since when each registration has waited for its first event, and assess it."""
    if not router.registrations:
        return [warning(TOPIC, NO_HANDLERS)]
    try:
        since_ms = await registered_without_event(redis)
    except (RedisError, OSError, TimeoutError):
        return []  # redis_check reports an unreachable Redis
    now_ms = clock.now_ms()
    days = {name: (now_ms - since_ms[name]) // _DAY_MS for name in router.registrations & since_ms.keys()}
    return list(assess_registrations(days, settings.public_url))


def assess_registrations(days: Mapping[str, int], public_url: str) -> Iterator[Finding]:
    """Name the registrations that have waited for an event for a week or more.

    Args:
        days: how long each registration without an event has waited.
        public_url: PUBLIC_URL, empty if it is not set.
    """
    waiting = {name: days[name] for name in sorted(days) if days[name] >= _QUIET_DAYS}
    if waiting:
        names = ", ".join(f"{name} ({count} days)" for name, count in waiting.items())
        yield info(
            TOPIC,
            f"No event has matched these registrations since a worker first had them: {names}. That is right for rare "
            "events. If you expect some, check in HubSpot that the app has an active webhook subscription for the "
            f"event type and property, and that its target URL is {public_url or 'PUBLIC_URL'}{RECEIVER_PATH}; and "
            "that ALLOWED_EVENTS does not exclude them.",
            registrations=waiting,
        )
