"""The names of what workers keep in Redis. Rule: every key carries the portal, and stands here."""


def settled(portal_id: int, delivery_id: str) -> str:
    """Set of the event keys of a delivery that need no more work."""
    return f"spokes:{portal_id}:settled:{delivery_id}"


def lane(portal_id: int, object_type: str, object_id: str) -> str:
    """Lease on an object: who holds it is the only one working on it."""
    return f"spokes:{portal_id}:lane:{object_type}:{object_id}"


def newest(portal_id: int, object_type: str, object_id: str) -> str:
    """Hash of property name to the `occurredAt` of the newest change that was applied."""
    return f"spokes:{portal_id}:newest:{object_type}:{object_id}"


def once(portal_id: int, object_type: str, object_id: str) -> str:
    """Hash of an effect's name to what is known of it."""
    return f"spokes:{portal_id}:once:{object_type}:{object_id}"


def dead(portal_id: int, event_key: str) -> str:
    """A dead letter."""
    return f"spokes:{portal_id}:dead:{event_key}"


def dead_index(portal_id: int) -> str:
    """Sorted set of the event keys of a portal's dead letters, by the epoch ms at which they died."""
    return f"spokes:{portal_id}:dead"


def episode(portal_id: int, name: str) -> str:
    """Stands while an alert has been given and the trouble may still be the same."""
    return f"spokes:{portal_id}:episode:{name}"


PORTALS = "spokes:portals"  # set of every portal that work was done for
