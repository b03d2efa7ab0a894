"""The names of what workers keep in Redis. Rule: every key carries the portal, and stands here."""

from typing import Final, TypeAlias

RedisArg: TypeAlias = str | bytes | int
RedisCommand: TypeAlias = tuple[RedisArg, ...]  # of Redis, or settle.lua's NEWER, as words


def settled_events(portal_id: int, delivery_id: str) -> str:
    """Set of the event keys of a delivery that need no more work."""
    return f"spokes:{portal_id}:settled:{delivery_id}"


def lane(portal_id: int, object_type: str, object_id: str) -> str:
    """Lease on an object: who holds it is the only one working on it."""
    return f"spokes:{portal_id}:lane:{object_type}:{object_id}"


def newest_timestamps(portal_id: int, object_type: str, object_id: str) -> str:
    """Hash of property name to the `occurredAt` of the newest change that was applied."""
    return f"spokes:{portal_id}:newest:{object_type}:{object_id}"


def once_effects(portal_id: int, object_type: str, object_id: str) -> str:
    """Hash of an effect's name to what is known of it."""
    return f"spokes:{portal_id}:once:{object_type}:{object_id}"


def dead_letter(portal_id: int, event_key: str) -> str:
    """A dead letter."""
    return f"spokes:{portal_id}:dead:{event_key}"


def dead_letters_by_time(portal_id: int) -> str:
    """Sorted set of the event keys of a portal's dead letters, by the epoch ms at which they died."""
    return f"spokes:{portal_id}:dead"


def dead_letter_causes(portal_id: int) -> str:
    """Set of what a portal's letters have died of: JSON of reason and handler."""
    return f"spokes:{portal_id}:dead_causes"


def dead_letters_by_cause(portal_id: int, reason: str, handler: str) -> str:
    """Sorted set like `dead_index`, of the letters of one cause."""
    return f"spokes:{portal_id}:dead_of:{reason}:{handler}"


def missing_object_letters(portal_id: int, object_type: str, object_id: str) -> str:
    """Set of the event keys of dead letters whose object HubSpot did not find; a merge may tell where it went."""
    return f"spokes:{portal_id}:missing:{object_type}:{object_id}"


def crash_count(portal_id: int, event_key: str) -> str:
    """How many workers have died while they ran this event alone."""
    return f"spokes:{portal_id}:deaths:{event_key}"


def alert_once(portal_id: int, name: str) -> str:
    """Stands while an alert has been given and the trouble may still be the same."""
    return f"spokes:{portal_id}:episode:{name}"


def surviving_id(portal_id: int, object_type: str, object_id: str) -> str:
    """The id under which a record lives on that was merged away."""
    return f"spokes:{portal_id}:merged:{object_type}:{object_id}"


def portal_prefixes(portal_id: int) -> tuple[str, str, str]:
    """The starts of the keys `lane`, `merged` and `newest`; an object's type and id follow."""
    of_portal = f"spokes:{portal_id}"
    return f"{of_portal}:lane:", f"{of_portal}:merged:", f"{of_portal}:newest:"


def has_merges(portal_id: int) -> str:
    """Stands while any record of the portal is known to have been merged away; without it nobody needs to look."""
    return f"spokes:{portal_id}:merges"


def rewrite_loops(portal_id: int, object_type: str, object_id: str) -> str:
    """Hash of what we wrote of late: see workers/delivery/rewrite_loops.py."""
    return f"spokes:{portal_id}:rounds:{object_type}:{object_id}"


PAUSED_PORTALS = "spokes:paused"  # hash of portal to why its work waits: see spokes/queue/portal_pauses.py
UNREADABLE_JOBS = "spokes:unreadable"  # list of jobs that nobody can read, newest first
PORTALS = "spokes:portals"  # set of every portal that work was done for
ERASED_OBJECTS = (
    "spokes:forgotten"  # sorted set of portal:type:id that were erased and are looked for again, by epoch ms
)
BUDGET_PORTALS = (
    "spokes:budgets"  # sorted set of the portals that workers call HubSpot for, by the epoch s at which they said so
)
SETTLED_TTL_S: Final = 7 * 86_400  # marks outlive any pause between two runs of one delivery
