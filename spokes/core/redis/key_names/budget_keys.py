"""The names of the rate budget's Redis keys; `spokes.core.redis.keys.KEYS` lists them with the others."""


def rate_budget(portal_id: int) -> str:
    """Return the key of the limits and pauses of a portal's rate budget."""
    return f"spokes:{portal_id}:budget"


def rate_budget_slots(portal_id: int, kind: str) -> str:
    """Return the key of the slots of one kind of call."""
    return f"spokes:{portal_id}:budget:{kind}"


def rate_budget_import_slots(portal_id: int, kind: str) -> str:
    """Return the key of the slots of one kind of call that imports hold; the name is that of earlier versions."""
    return f"spokes:{portal_id}:budget:{kind}:background"


def rate_budget_queues(portal_id: int, kind: str) -> str:
    """Return the key of the batch queues that make calls of one kind."""
    return f"spokes:{portal_id}:budget:{kind}:queues"


def rate_budget_round_trips(portal_id: int, kind: str) -> str:
    """Return the key of the shortest round trips of the latest calls of one kind."""
    return f"spokes:{portal_id}:budget:{kind}:round-trips"
