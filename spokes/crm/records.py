"""An object as it was read. Rule: a property that was not read is an error, not an empty value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from spokes.crm.transport.response_json import Json, text_id


@dataclass(frozen=True, slots=True)
class Record:
    """One object as it was read; `type` in the singular, as events name it.

    `id` is the one it has now: of a record that was merged away, the survivor's. `updated_ms` is when it was changed
    last, in epoch ms by HubSpot's clock, which `occurredAt` of events goes by too; 0 when HubSpot did not say.
    `told_at` is by property when an event happened whose value was taken instead of what was read.
    """

    id: str
    type: str
    properties: Mapping[str, str]
    updated_ms: int = 0
    event_value_at: dict[str, int] = field(default_factory=dict, compare=False)

    def as_of(self, name: str) -> int:
        """Return how new the truth of a property is (epoch ms)."""
        return self.event_value_at.get(name, self.updated_ms)

    def __getitem__(self, name: str) -> str:
        """Return a property's value, empty when it is unset.

        Raises:
            KeyError: it was not asked for, so whether it is set is not known.
        """
        try:
            return self.properties[name]
        except KeyError:
            raise KeyError(
                f"{name} was not read: declare it among the properties that are read of {self.type}"
            ) from None


def parse_record(item: Json, object_type: str, names: Iterable[str]) -> Record:
    """Return an element of an answer as a record with the properties `names`."""
    given = item.get("properties")
    values = given if isinstance(given, Mapping) else {}
    object_id = text_id(item.get("id"))
    texts = {name: text_id(values.get(name)) for name in names}
    return Record(object_id, object_type, {**texts, "hs_object_id": object_id}, _epoch_ms(item.get("updatedAt")))


def _epoch_ms(moment: object) -> int:
    try:
        return round(datetime.fromisoformat(str(moment)).timestamp() * 1000)
    except ValueError:
        return 0
