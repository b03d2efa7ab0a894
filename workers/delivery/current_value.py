"""What counts of a property: what is there, or what an event tells. Rule: ours never stands over what people set."""

from spokes.core.events import Event
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.records import Record


class EventCurrentValue:
    """`tools.standing` for one event; `told` says whether the event's value was taken."""

    __slots__ = ("_as_received", "_event", "_is_newer", "_own_writes", "used_event_value")

    def __init__(self, own_writes: OwnWriteLedger, event: Event, as_received: Event, *, applied_at: int = 0) -> None:
        """Tell for `event`, which came under another id if its record was merged away since.

        `applied_at` is how new the truth is that was applied of what the event changed. Another change of the very same
        millisecond may have been the last: then nobody but HubSpot knows, and what is there counts.
        """
        self.used_event_value = False
        self._is_newer = as_received.occurred_at > applied_at
        self._own_writes = own_writes
        self._event = event
        self._as_received = as_received

    async def __call__(self, record: Record, name: str) -> str:
        """See spokes.tools.Standing."""
        came, there = self._as_received, record[name]
        # An empty value may be one that was cleared or withheld.
        value = came.property_value if came.property_name == name and record.id == self._event.survivor_id else None
        if not value or value == there or not self._is_newer:
            return there
        # What is there came from the merged record if it is what we wrote to that one. A worker that was frozen after
        # its write has left no mark of it; what the write rested on says whether it knew of this change.
        rested_on = await self._own_writes.basis_of_write(
            came.portal_id, came.object_type, came.survivor_id, name, there
        )
        if rested_on is None or came.occurred_at <= rested_on:
            return there
        self.used_event_value, record.event_value_at[name] = True, came.occurred_at
        return value
