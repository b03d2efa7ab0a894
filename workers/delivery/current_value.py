"""`tools.current_value` for one event: the value of a property that a handler should act on.

A value that a person set is never replaced by our own write of an older value: see docs/adr/0052.
"""

from spokes.core.events import Event
from spokes.crm.own_writes import OwnWriteLedger
from spokes.crm.records import Record


class EventCurrentValue:
    """`tools.current_value`; `used_event_value` is whether it returned the event's value instead of the record's."""

    __slots__ = ("_as_received", "_event", "_is_newer", "_own_writes", "used_event_value")

    def __init__(self, own_writes: OwnWriteLedger, event: Event, as_received: Event, *, applied_at: int = 0) -> None:
        """Decide for `event`; `as_received` differs from it if its record was merged since.

        `applied_at` is the `occurredAt` of the newest change of the property that was applied. Between two changes of
        the same millisecond only HubSpot knows which came last, so the record's value is used.
        """
        self.used_event_value = False
        self._is_newer = as_received.occurred_at > applied_at
        self._own_writes = own_writes
        self._event = event
        self._as_received = as_received

    async def __call__(self, record: Record, name: str) -> str:
        """See spokes.tools.CurrentValue."""
        received, record_value = self._as_received, record[name]
        is_about_it = received.property_name == name and record.id == self._event.survivor_id
        value = received.property_value if is_about_it else None
        # An empty value may be a cleared one or a withheld one.
        if not value or value == record_value or not self._is_newer:
            return record_value
        # The ledger is searched under the id as received: if the record was merged, the survivor got its value from
        # there. A worker that was suspended after its write left no newest timestamp, so the ledger also holds how new
        # the data was that the write was based on: an event not newer than that was known to the write.
        based_on_ms = await self._own_writes.basis_of_write(
            received.portal_id, received.object_type, received.survivor_id, name, record_value
        )
        if based_on_ms is None or received.occurred_at <= based_on_ms:
            return record_value
        self.used_event_value, record.event_value_at[name] = True, received.occurred_at
        return value
