"""Events as HubSpot sends them, in both dialects, made by the simulator's own code for subscriptions."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, TypeAlias

from spokes.simulator.changes import AssociationEnd, Change, ChangeKind, ChangeSource, Merge, ObjectRef
from spokes.simulator.config import PortalConfig, Subscription
from spokes.simulator.crm.association_types import AssociationType
from spokes.simulator.crm.object_types import ObjectType
from spokes.simulator.webhooks.subscriptions import Subscriptions

Dialect: TypeAlias = Literal["classic", "generic"]
_CLASSIC_FAMILIES: Final = frozenset({"contact", "company", "deal", "ticket", "product", "line_item"})
_DIALECTS: Final = (None, "classic", "generic")
_KINDS: Final = tuple(kind.value for kind in ChangeKind if kind is not ChangeKind.NEW_MESSAGE)


@dataclass(frozen=True, slots=True)
class EventSpec:
    """What one event says, apart from what HubSpot adds to every event."""

    type_: ObjectType
    kind: ChangeKind
    object_id: str
    source: ChangeSource
    at_ms: int
    property_name: str | None = None
    property_value: str = ""
    merge: Merge | None = None
    association: tuple[AssociationType, ObjectRef] | None = None


class EventFactory:
    """Makes the events of one portal; each has an event id of its own."""

    def __init__(self, config: PortalConfig) -> None:
        self._subscriptions = Subscriptions(config, Random(f"{config.portal_id} events of the test kit"))

    def build(self, spec: EventSpec, dialect: Dialect | None) -> dict[str, Any]:
        """Return an event; by default in the classic dialect where HubSpot has it for the object type.

        Raises:
            ValueError: HubSpot sends no such event in this dialect.
        """
        if dialect not in _DIALECTS:
            raise ValueError(f"dialect={dialect!r} is none of HubSpot's: write classic or generic.")
        singular = spec.type_.singular
        is_generic = dialect == "generic" or (dialect is None and singular not in _CLASSIC_FAMILIES)
        family = "object" if is_generic else singular
        end = None
        if spec.association is not None:
            type_, target = spec.association
            end = AssociationEnd(target, type_.spec, removed=False, primary=type_.primary)
        change = Change(
            spec.kind, ObjectRef(spec.type_.type_id, spec.object_id), spec.source, spec.at_ms, spec.property_name,
            spec.property_value, spec.merge, end,
        )  # fmt: skip
        subscription = self._subscriptions.add(Subscription(f"{family}.{spec.kind}"))
        elements = self._subscriptions.build_elements(change)
        self._subscriptions.remove(subscription.subscription_id)
        if not elements:
            named = f" of the property {spec.property_name}" if spec.property_name else ""
            raise ValueError(f"HubSpot sends no event {family}.{spec.kind}{named} for {spec.type_.plural}.")
        return elements[0]


def split_event_type(event_type: str) -> tuple[str, ChangeKind]:
    """Return object type and kind of an event type such as `contact.creation`.

    Raises:
        ValueError: HubSpot has no such kind of event.
    """
    family, _, kind = event_type.partition(".")
    if kind not in _KINDS:
        kinds = ", ".join(_KINDS)
        raise ValueError(f"{event_type!r} is no event type: write an object type, a dot and one of {kinds}.")
    return family, ChangeKind(kind)
