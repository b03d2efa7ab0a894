"""`Delivery`: events of one portal that are admitted together, as one arq job. The contract of web process and worker.

The codec is versioned because during a deploy both run different versions of the code. It compresses because hosted
Redis is priced by memory. It is JSON, not pickle: write access to Redis must not allow anybody to execute code.
"""

import random
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import orjson
import zstandard
from msgspec import Raw

from spokes.core import clock
from spokes.core.errors import MalformedEvent, UnreadableDelivery
from spokes.core.events import INTAKES, Event, Intake, RawEvent
from spokes.core.json_reading.json_size import has_more_values
from spokes.core.priority import Priority, priority_of

JobPayload: TypeAlias = dict[str, Any]  # an arq job, or its one argument, as JSON

JOB_NAME: Final = "process_delivery"

# The first byte of a payload is its codec; 2 was zlib, before the first release.
_CODEC_PLAIN: Final = b"\x01"
_CODEC_ZSTD: Final = b"\x03"
_COMPRESS_FROM_BYTES: Final = 100  # compressing shorter payloads gains nothing
# Text that events share, the most common last: it halves the size of a delivery of one event.
# Part of the codec: another dictionary needs another codec byte.
_DICTIONARY: Final = (
    b'"conversation.newMessage","object.associationChange","associationType":"CONTACT_TO_COMPANY","fromObjectId":'
    b'"toObjectId":"associationRemoved":false,"isPrimaryAssociation":"primaryObjectId":"mergedObjectIds":["newObjectId":'
    b'"ticket.propertyChange","company.propertyChange","deal.propertyChange","object.propertyChange","object.creation",'
    b'"objectTypeId":"0-1","changeSource":"INTEGRATION","IMPORT","AUTOMATION_PLATFORM","lifecyclestage","dealstage",'
    b'"changeFlag":"CREATED","changeSource":"CRM_UI","sourceId":"userId:","propertyName":"email","propertyValue":"'
    b'","isSensitive":false}],["",0,{"eventId":1,"subscriptionId":1,"portalId":1,"appId":1,"occurredAt":1795442400000,'
    b'"subscriptionType":"contact.propertyChange","attemptNumber":0,"objectId":318845120000,"changeFlag":"DELETED",'
    b'{"t":null,"f":"process_delivery","a":[{"id":"","portal":1,"at":1795442400000,"events":[["",0,{"eventId":'
)
# What a payload may ask of the memory of its reader. A body of the largest MAX_BODY_BYTES (16 MiB), with what a job
# adds to each event, is smaller; the web process refuses bodies with more than MAX_BODY_VALUES values.
MAX_BODY_VALUES: Final = 500_000
_MAX_BYTES: Final = 24 * 1024 * 1024
_MAX_VALUES: Final = 2 * MAX_BODY_VALUES
_FURTHER_FIELDS: Final = ("free_runs", "failing_since")  # of entries, stored by event key: earlier versions ignore them
_OVERSIZED_BYTES: Final = _MAX_BYTES // 2
_OVERSIZED_VALUES: Final = 100_000  # HubSpot sends at most 100 events of about 20 fields
_ZSTD_DICTIONARY: Final = zstandard.ZstdCompressionDict(_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
# One of each per process: creating one costs more than its work on a delivery. Higher levels take longer and save
# nothing; negative levels take half the time and produce a fifth more bytes.
_COMPRESS: Final = zstandard.ZstdCompressor(level=1, dict_data=_ZSTD_DICTIONARY, write_checksum=True).compress
_DECOMPRESS: Final = zstandard.ZstdDecompressor(dict_data=_ZSTD_DICTIONARY).decompress


class Entry(NamedTuple):
    """One event of a delivery: its event key, the number of spent attempts, and the element as HubSpot sent it.

    If several handlers process the event, a worker makes an entry for each of them. Its key is the event key, a dot and
    the handler's name: such an entry is settled, retried and stored as a dead letter without the others.
    `free_runs` counts the handler runs that failed without spending an attempt, because of a pause for example.
    `failing_since` is the epoch ms at which HubSpot first failed a call of this event; 0 if it has not.
    `intake` is how the event reached us; the entries of a delivery share it.
    """

    key: str
    attempt: int
    raw: RawEvent
    free_runs: int = 0
    failing_since: int = 0
    intake: Intake = "push"

    @property
    def event(self) -> Event:
        """The parsed element; it was valid when it was admitted.

        Raises:
            UnreadableDelivery: it is not valid now: the payload was changed, or the parser has become stricter.
        """
        try:
            event = Event(self.raw)
        except MalformedEvent as error:
            raise UnreadableDelivery from error
        event.intake = self.intake
        return event

    @property
    def event_key(self) -> str:
        """The key of the event, whichever handler the entry is for."""
        return self.key.partition(".")[0]

    @property
    def handler(self) -> str:
        """The name of the handler that the entry is for; empty if it is for the event's only handler."""
        return self.key.partition(".")[2]

    def for_handler(self, name: str) -> "Entry":
        """Return the entry of one of several handlers of the event."""
        return self._replace(key=entry_key(self.key, name))

    @property
    def stored(self) -> tuple[str, int, RawEvent]:
        """The form in jobs and dead letters: earlier versions read no further field."""
        return self.key, self.attempt, self.raw

    @property
    def is_event(self) -> bool:
        """Whether `event` is readable."""
        try:
            Event(self.raw)
        except MalformedEvent:
            return False
        return True


def entry_key(event_key: str, handler: str) -> str:
    """Return the key of the entry of one of several handlers of an event."""
    return f"{event_key}.{handler}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Events of one portal and priority class that were admitted together, or are retried together."""

    id: str
    portal_id: int
    received_at: int  # epoch ms
    entries: tuple[Entry, ...]
    priority: Priority = "interactive"

    @property
    def intake(self) -> Intake:
        """How the events reached us."""
        return self.entries[0].intake if self.entries else "push"

    def to_job(self) -> JobPayload:
        """The one argument of the arq job."""
        events = [entry.stored for entry in self.entries]
        argument = job_argument(
            self.id, self.portal_id, self.received_at, events, priority=self.priority, intake=self.intake
        )
        for name in _FURTHER_FIELDS:
            if values := {entry.key: value for entry in self.entries if (value := getattr(entry, name))}:
                argument[name] = values
        return argument

    @classmethod
    def from_job(cls, job: Any) -> "Delivery":
        """Parse the argument of an arq job.

        Raises:
            UnreadableDelivery: `to_job` did not make it.
        """
        try:
            # A later version may append fields to an entry.
            entries = tuple([Entry(str(key), int(attempt), dict(raw)) for key, attempt, raw, *_ in job["events"]])
            # Absent in jobs of earlier versions.
            if values := job.get("free_runs"):
                entries = tuple(entry._replace(free_runs=int(values.get(entry.key, 0))) for entry in entries)
            if values := job.get("failing_since"):
                entries = tuple(entry._replace(failing_since=int(values.get(entry.key, 0))) for entry in entries)
            if (value := job.get("intake")) is not None and (intake := stored_intake(value)) != "push":
                entries = tuple(entry._replace(intake=intake) for entry in entries)
            priority = _stored_priority(job, entries)
            return cls(str(job["id"]), int(job["portal"]), int(job["at"]), entries, priority)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableDelivery from error


def new_delivery_id(portal_id: int) -> str:
    """Return a new delivery id: portal, time and random bits, so that the ids of one portal sort by time."""
    return f"{portal_id}-{clock.now_ms():x}-{random.getrandbits(40):010x}"


def job_argument(
    delivery_id: str,
    portal_id: int,
    received_at: int,
    events: Sequence[tuple[object, ...]] | Raw,
    *,
    priority: Priority = "interactive",
    intake: Intake = "push",
) -> JobPayload:
    """Return the one argument of the arq job; each of `events` is as `Entry.stored`; or they are JSON already."""
    argument: JobPayload = {"id": delivery_id, "portal": portal_id, "at": received_at, "events": events}
    if priority != "interactive":
        argument["class"] = priority
    if intake != "push":
        argument["intake"] = intake
    return argument


def stored_intake(value: object) -> Intake:
    """Return the intake in a stored form; push if there is none, as in earlier versions, or one of a later version."""
    return "push" if value is None else next((intake for intake in INTAKES if intake == value), "push")


def _stored_priority(job: JobPayload, entries: Sequence[Entry]) -> Priority:
    """Return the priority class of a stored delivery; versions before the classes stored none."""
    if job.get("class") == "import":
        return "import"
    for entry in entries:  # as a rule, the first one decides
        if priority_of(entry.raw.get("changeSource")) == "interactive":
            return "interactive"
    return "import" if entries else "interactive"


def arq_job(delivery: JobPayload, now_ms: int) -> JobPayload:
    """Return the arq job for a delivery, given as `job_argument` returns it."""
    return {"t": None, "f": JOB_NAME, "a": [delivery], "k": {}, "et": now_ms}


def job_payload(delivery: Delivery, now_ms: int) -> bytes:
    """Return the bytes of the arq job for `delivery`.

    Store them under JOB_KEY_PREFIX + delivery.id without expiry (arq silently drops an expired job), and add the id
    to the queue of its priority class (keys.QUEUES), scored by the epoch ms at which the job is due.
    """
    return encode(arq_job(delivery.to_job(), now_ms))


def encode(job: JobPayload) -> bytes:
    """Encode an arq job; arq's `job_serializer`."""
    # The result of a job may be an exception. Only its class is stored: its text may hold property values.
    return compress(orjson.dumps(job, default=lambda value: type(value).__name__))


def compress(data: bytes) -> bytes:
    """Return the stored form of a job's JSON: the codec byte, then the data."""
    if len(data) < _COMPRESS_FROM_BYTES:
        return _CODEC_PLAIN + data
    return _CODEC_ZSTD + _COMPRESS(data)


def decode(payload: bytes) -> dict[str, Any]:
    """Decode an arq job; arq's `job_deserializer`.

    Raises:
        UnreadableDelivery: the payload is not made by `encode`, truncated, too large, or of an unknown version.
    """
    data = decompress(payload)
    if has_more_values(data, _MAX_VALUES):
        raise UnreadableDelivery
    try:
        job = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnreadableDelivery from error
    if not isinstance(job, dict):
        raise UnreadableDelivery
    return job


def is_oversized(payload: bytes) -> bool:
    """Return whether a payload is much larger than any that HubSpot's requests make, without parsing it."""
    try:
        data = decompress(payload)
    except UnreadableDelivery:
        return True
    return len(data) > _OVERSIZED_BYTES or has_more_values(data, _OVERSIZED_VALUES)


def unread_argument(payload: bytes) -> JobPayload:
    """Return the argument of a job that is set aside without being read."""
    return {"unreadable": b64encode(payload).decode()}


def decompress(payload: bytes) -> bytes:
    """Return the JSON in a payload of `encode`.

    Raises:
        UnreadableDelivery: the payload is truncated, too large, or of an unknown version.
    """
    codec, data = payload[:1], payload[1:]
    if codec == _CODEC_PLAIN and len(data) <= _MAX_BYTES:
        return data
    if codec != _CODEC_ZSTD:
        raise UnreadableDelivery
    try:
        if zstandard.frame_content_size(data) > _MAX_BYTES:  # unknown (-1) in frames of earlier versions
            raise UnreadableDelivery
        return _DECOMPRESS(data, max_output_size=_MAX_BYTES)
    except zstandard.ZstdError as error:
        raise UnreadableDelivery from error
