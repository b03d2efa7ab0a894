"""Fold requests that are committed in one call: those of one portal and priority class become one delivery. Pure.

HubSpot sends many requests of one event each. A job, an audit head and a payload for each would cost Redis and the
workers several times what their events do.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.json import Encoder

from spokes.core.events import Intake
from spokes.core.priority import Priority
from spokes.intake.classification import AdmissionEvent, ClassifiedDelivery

_MAX_EVENTS: Final = 100  # of a delivery of several requests: as many as HubSpot sends in one
_MAX_TRIES: Final = 2  # in company: a request that was refused twice is stored alone
_ENCODE_JSON: Final = Encoder().encode  # of both kinds of elements


class PendingRequest(NamedTuple):
    """The deliveries of one request and portal that wait to be stored, with their entries as JSON arrays.

    `refusals` counts the calls that did not store it, because an event of it, or of a request that it was folded with,
    was known. Without a `request_id`, a request is stored alone.
    """

    deliveries: Sequence[ClassifiedDelivery]
    entries: Sequence[bytes]
    event_count: int
    request_id: str
    refusals: int

    @property
    def folds_by(self) -> tuple[int, Priority, Intake, str, int] | None:
        """What requests must share to become one delivery; None if this one cannot be part of one.

        Those that were refused as often only: otherwise new requests with known events could refuse one for ever.
        """
        first = self.deliveries[0]
        has_records = bool(first.records or first.duplicates)
        if len(self.deliveries) > 1 or has_records or not self.request_id or self.refusals >= _MAX_TRIES:
            return None
        return first.portal_id, first.priority, first.intake, first.origin, self.refusals


class StoredTogether(NamedTuple):
    """Requests that are stored together or not at all, and the deliveries that are stored for them."""

    requests: list[PendingRequest]
    deliveries: Sequence[ClassifiedDelivery]
    entries: Sequence[bytes]  # JSON array of the entries of each delivery

    @property
    def events(self) -> list[AdmissionEvent]:
        """Those of all deliveries, in their order."""
        return [event for delivery in self.deliveries for event in delivery.events]

    def split(self, known: Sequence[int]) -> list[list[int]]:
        """Return for each request the indexes of its own known events, from their indexes among all events."""
        split = []
        first = 0
        for request in self.requests:
            end = first + request.event_count
            split.append([index - first for index in known if first <= index < end])
            first = end
        return split


def pending_request(deliveries: Sequence[ClassifiedDelivery], request_id: str, refusals: int) -> PendingRequest:
    """Return a request that waits; see `PendingRequest`."""
    entries = [_ENCODE_JSON([(event.key, 0, event.element) for event in delivery.events]) for delivery in deliveries]
    return PendingRequest(deliveries, entries, sum(len(each.events) for each in deliveries), request_id, refusals)


def fold(requests: Sequence[PendingRequest]) -> list[StoredTogether]:
    """Return what to store for `requests`, which may be stored independently of each other."""
    if len(requests) == 1:
        return [_alone(requests[0])]
    groups: list[list[PendingRequest]] = []
    open_groups: dict[tuple[int, Priority, Intake, str, int], tuple[list[PendingRequest], int]] = {}
    for request in requests:
        key = request.folds_by
        if key is None:
            groups.append([request])
            continue
        group, event_count = open_groups.get(key, ([], 0))
        if not group or event_count + request.event_count > _MAX_EVENTS:
            group, event_count = [], 0
            groups.append(group)
        group.append(request)
        open_groups[key] = group, event_count + request.event_count
    return [_alone(group[0]) if len(group) == 1 else _folded(group) for group in groups]


def _alone(request: PendingRequest) -> StoredTogether:
    return StoredTogether([request], request.deliveries, request.entries)


def _folded(requests: list[PendingRequest]) -> StoredTogether:
    """Return requests with one delivery that holds the events of all; it has the id and the time of the first one."""
    deliveries = [request.deliveries[0] for request in requests]
    ignored: dict[str, int] = {}
    for delivery in deliveries:
        for name, count in delivery.ignored.items():
            ignored[name] = ignored.get(name, 0) + count
    first = deliveries[0]
    combined = ClassifiedDelivery(
        first.id, first.portal_id, first.received_at,
        [event for delivery in deliveries for event in delivery.events],
        sum(delivery.received_count for delivery in deliveries), ignored,
        duplicate_count=sum(delivery.duplicate_count for delivery in deliveries), priority=first.priority,
        request_ids=tuple(request.request_id for request in requests), intake=first.intake, origin=first.origin,
    )  # fmt: skip
    entries = b",".join(request.entries[0][1:-1] for request in requests if request.event_count)
    return StoredTogether(requests, [combined], [b"[" + entries + b"]"])
