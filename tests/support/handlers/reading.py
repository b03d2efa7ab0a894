"""A handler of every kind of event that reads each attribute of the event, as handlers of users do."""

from spokes.core.events import Event
from spokes.routing import Router
from spokes.tools import Tools

ROUTER = Router()
ATTRIBUTES = {
    "app_id": (int, type(None)), "attempt_number": (int,), "change_source": (str, type(None)),
    "event_id": (int, type(None)), "is_sensitive": (bool,), "kind": (str,), "merged_ids": (tuple,),
    "object_id": (str,), "object_type": (str,), "occurred_at": (int,), "portal_id": (int,),
    "property_name": (str, type(None)), "property_value": (str, type(None)), "source_id": (str, type(None)),
    "subscription_type": (str,), "survivor_id": (str,), "type": (str,),
}  # fmt: skip


def wrong_attributes(event: Event) -> list[str]:
    """Return the attributes that are of another type than they promise."""
    return [name for name, types in ATTRIBUTES.items() if type(getattr(event, name)) not in types]


@ROUTER.register("object.creation")
@ROUTER.register("object.deletion")
@ROUTER.register("object.restore")
@ROUTER.register("object.privacyDeletion")
@ROUTER.register("object.merge")
@ROUTER.register("object.propertyChange")
@ROUTER.register("object.associationChange")
@ROUTER.register("conversation.newMessage")
async def read_everything(event: Event, tools: Tools) -> None:
    """Fail if an attribute is of another type than it promises."""
    del tools
    if wrong := wrong_attributes(event):
        raise TypeError(wrong)
