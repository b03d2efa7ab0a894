"""`Record`: an object as it was read. A property that was not read is an error, not an empty value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from spokes.core.deprecation import DeprecatedAlias
from spokes.core.errors import PropertyNotDeclared
from spokes.crm.object_types import plural
from spokes.crm.transport.response_json import Json, text_id


@dataclass(frozen=True, slots=True)
class Record:
    """One object as it was read; `type` in the singular, as events name it.

    `id` is its present id: the survivor's, if the object was merged. `updated_ms` is when it was last changed, in epoch
    ms by HubSpot's clock, which `occurredAt` of events uses too; 0 if HubSpot did not say. `event_value_at` holds, by
    property, when the event happened whose value was used instead of the one that was read.
    """

    id: str
    type: str
    properties: Mapping[str, str]
    updated_ms: int = 0
    event_value_at: dict[str, int] = field(default_factory=dict, compare=False)

    told_at = DeprecatedAlias("event_value_at")
    rests_on = DeprecatedAlias("as_of")

    def as_of(self, name: str) -> int:
        """Return when this property's value was last changed, as far as we know (epoch ms)."""
        return self.event_value_at.get(name, self.updated_ms)

    def __getitem__(self, name: str) -> str:
        """Return a property's value, empty if it is unset.

        Raises:
            PropertyNotDeclared: the property was not read, so whether it is set is unknown. It is a KeyError.
        """
        try:
            return self.properties[name]
        except KeyError:
            raise PropertyNotDeclared(plural(self.type), name) from None


def parse_record(item: Json, object_type: str, names: Iterable[str]) -> Record:
    """Return an element of a response as a record with the properties `names`."""
    properties = item.get("properties")
    values = properties if isinstance(properties, Mapping) else {}
    object_id = text_id(item.get("id"))
    texts = {name: text_id(values.get(name)) for name in names}
    texts["hs_object_id"] = object_id
    return Record(object_id, object_type, texts, _epoch_ms(item.get("updatedAt")))


def _epoch_ms(timestamp: object) -> int:
    try:
        return round(datetime.fromisoformat(str(timestamp)).timestamp() * 1000)
    except ValueError:
        return 0
