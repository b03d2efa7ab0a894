"""Desired states for tests, from routers and from registrations."""

from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.routing import Router, uses
from spokes.subscriptions.desired_state import DesiredState, desired_state
from spokes.tools import Tools

URL = "https://hooks.example.com"


def desired_of(
    *registrations: str, public_url: str = URL, max_concurrent_requests: int | None = None, **declared: object
) -> DesiredState:
    """Return what a router needs whose handler has these registrations and declarations.

    Without `max_concurrent_requests`, the deployment does not set HUBSPOT_MAX_CONCURRENT_REQUESTS.
    """
    router = Router()

    async def follow_up(event: Event, tools: Tools) -> None: ...

    handler = uses(**declared)(follow_up) if declared else follow_up  # type: ignore[arg-type]  # a test's own
    for registration in registrations:
        event_type, _, property_name = registration.partition(":")
        router.register(event_type, property=property_name or None)(handler)
    limit = {"HUBSPOT_MAX_CONCURRENT_REQUESTS": str(max_concurrent_requests)} if max_concurrent_requests else {}
    return desired_state(router, Settings.from_env({"PUBLIC_URL": public_url, **limit}))
