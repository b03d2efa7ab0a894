"""How known events are recorded: one record a request, and fewer records the more often the same request comes. Pure.

HubSpot sends a request up to ten times, and each of these is recorded. A captured request can be sent thousands of
times within the minutes in which its signature is valid; it must not fill the audit.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from msgspec import to_builtins

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields
from spokes.core.events import Event
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery

_ALL_RECORDED: Final = 10  # as often as HubSpot sends a request
_ID_BYTES: Final = 8


def is_recorded(times: int) -> bool:
    """Return whether a request is recorded that came `times` times after its admission: up to ten, then 20, 40, ..."""
    doublings, remainder = divmod(times, _ALL_RECORDED)
    return times <= _ALL_RECORDED or (remainder == 0 and doublings & (doublings - 1) == 0)


def redelivery_id(deliveries: Sequence[ClassifiedDelivery]) -> str:
    """Return what identifies the known events and the malformed elements of a request."""
    keys = [event.key for delivery in deliveries for event in delivery.duplicates]
    keys += [content.key for delivery in deliveries for content in delivery.malformed]
    return hashlib.blake2b(" ".join(sorted(keys)).encode(), digest_size=_ID_BYTES).hexdigest()


def duplicate_records(delivery: ClassifiedDelivery) -> list[AuditRecord]:
    """Return the record of the known events of a delivery: that of the event if there is one, else one of all."""
    events = delivery.duplicates
    if len(events) == 1:
        return [_event_record(delivery, events[0])]
    if not events:
        return []
    detail = {"events": len(events), "keys": [event.key for event in events], **_further_detail(delivery)}
    return [
        AuditRecord(
            action=Action.EVENT,
            outcome=Outcome.DUPLICATE,
            portal_id=delivery.portal_id,
            delivery_id=delivery.id,
            detail=detail,
        )
    ]


def _event_record(delivery: ClassifiedDelivery, event: AdmissionEvent) -> AuditRecord:
    parsed = Event(to_builtins(event.element))
    fields = event_fields(
        parsed, Outcome.DUPLICATE, key=event.key, delivery_id=delivery.id, attempt=parsed.attempt_number,
        detail=_further_detail(delivery),
    )  # fmt: skip
    return AuditRecord(**fields)


def _further_detail(delivery: ClassifiedDelivery) -> dict[str, object]:
    detail: dict[str, object] = {"times": delivery.times} if delivery.times > 1 else {}
    return detail if delivery.intake == "push" else {**detail, "intake": delivery.intake}
