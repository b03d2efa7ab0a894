"""What counts of a property: what is there, or what an event tells. Rule: ours never stands over what people set."""

from core.events import Event
from crm.echoes import Echoes
from crm.records import Record


class StandingForEvent:
    """`tools.standing` for one event; `told` says whether the event's value was taken."""

    __slots__ = ("_echoes", "_event", "told")

    def __init__(self, echoes: Echoes, event: Event) -> None:
        self.told = False
        self._echoes = echoes
        self._event = event

    async def __call__(self, record: Record, name: str) -> str:
        """See handlers.tools.Standing."""
        event, there = self._event, record[name]
        # An empty value may be one that was cleared, withheld, or told of a record that was merged away since.
        value = event.property_value if event.property_name == name and record.id == event.survivor_id else None
        if not value or value == there:
            return there
        if not await self._echoes.wrote(event.portal_id, event.object_type, record.id, name, there):
            return there
        self.told = True
        return value
