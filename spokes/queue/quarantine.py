"""Quarantined contents, kept sealed for an operator: unreadable elements, bodies and stored deliveries.

A content has a keyed hash that ignores `attemptNumber`, so each is stored once and not once per try of HubSpot. Per
portal their number and bytes are bounded; beyond that the oldest are deleted, which their alert counts.
"""

import re
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import READ_ERRORS, read_items
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core.clock import now_ms
from spokes.core.delivery import compress, decode, decompress, encode
from spokes.core.errors import SecretUnreadable, UnreadableDelivery
from spokes.core.json_reading.json_size import has_more_values
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault

NO_PORTAL: Final = 0  # of contents without a readable portal
_SCRIPT: Final = (Path(__file__).parent / "quarantine.lua").read_text()
_MAX_COUNT: Final = 1_000  # per portal
_MAX_BYTES: Final = 32 * 1024 * 1024  # per portal, as stored
_PAGE_SIZE: Final = 100
_MAX_SHOWN_VALUES: Final = 100_000  # of a content whose fields are shown
_MAX_SEARCHED_BYTES: Final = 16 * 1024 * 1024  # of a compressed content
_JSON_TYPES: Final[Mapping[type, str]] = {
    str: "text", int: "number", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null",
}  # fmt: skip


class NewContent(NamedTuple):
    """A content to keep: its key, why it is quarantined, and its bytes as received."""

    portal_id: int
    key: str
    reason: str
    content: bytes


@dataclass(frozen=True, slots=True)
class QuarantinedContent:
    """A kept content: when it was stored (`at`, epoch ms), the bytes received (`size`), and what the vault opens."""

    portal_id: int
    key: str
    reason: str
    delivery_id: str
    at: int
    size: int
    sealed: bytes

    @property
    def is_delivery(self) -> bool:
        """Whether it is what a worker found in the queue, not what HubSpot sent."""
        return self.reason == UnreadableDelivery.reason

    @classmethod
    def from_bytes(cls, payload: bytes) -> "QuarantinedContent":
        """Parse the form stored in Redis.

        Raises:
            UnreadableDelivery: it is not a quarantined content.
        """
        fields = decode(payload)
        try:
            numbers = int(fields["portal"]), int(fields["at"]), int(fields["size"])
            texts = str(fields["key"]), str(fields["reason"]), str(fields["delivery"])
            sealed = fields["sealed"].encode()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableDelivery from error
        return cls(numbers[0], *texts, *numbers[1:], sealed)


class Quarantine:
    """The quarantined contents of all portals."""

    def __init__(self, redis: Redis, vault: Vault, *, ttl_s: int) -> None:
        self._redis = redis
        self._vault = vault
        self._ttl_s = ttl_s
        self._script = redis.register_script(_SCRIPT)

    @classmethod
    def from_settings(cls, redis: Redis, settings: Settings) -> "Quarantine":
        """Return the quarantine that keeps contents for DEAD_LETTER_DAYS."""
        return cls(redis, Vault.from_settings(settings), ttl_s=settings.dead_letter_days * 86_400)

    async def keep(
        self,
        contents: Iterable[NewContent],
        *,
        delivery_id: str,
        alert: Alert,
        at: int | None = None,
        **alert_fields: str,
    ) -> None:
        """Store contents and report those that are new by an alert; `at` (epoch ms) is when they were found.

        Raises:
            RedisError, OSError: Redis does not answer; nothing may be stored.
        """
        by_portal: dict[int, list[NewContent]] = {}
        for content in contents:
            by_portal.setdefault(content.portal_id, []).append(content)
        for portal_id, group in by_portal.items():
            now = now_ms()
            at = now if at is None else at
            ttl_s = max(1, self._ttl_s - (now - at) // 1000)
            args: list[str | bytes | int] = [portal_id, keys.quarantined_content(portal_id, ""), at, ttl_s]
            args += [_MAX_COUNT, _MAX_BYTES]
            for content in group:
                args += [content.key, self._stored_form(content, delivery_id, at)]
            names = [keys.quarantine_index(portal_id), keys.QUARANTINE_PORTALS]
            stored, deleted = await self._script(keys=names, args=args)
            if stored or deleted:
                reasons = Counter(content.reason for content in group)
                await AlertEpisodes(self._redis).report_once(
                    alert,
                    portal_id=portal_id,
                    stored=stored,
                    reasons=dict(reasons),
                    oldest_deleted=deleted,
                    **alert_fields,
                )

    async def portals(self) -> list[int]:
        """Return the portals that may have contents."""
        members = await self._redis.smembers(keys.QUARANTINE_PORTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
        return sorted(await read_items(self._redis, "portal", members, int))

    async def list(
        self, portal_id: int, content_keys: Collection[str] = (), *, after: str | None = None
    ) -> AsyncIterator[QuarantinedContent]:
        """Yield a portal's contents, or those with one of these keys, newest first; with `after`, those behind it."""
        index = keys.quarantine_index(portal_id)
        stored_keys = [key.decode(errors="replace") for key in await self._redis.zrevrange(index, 0, -1)]
        following = stored_keys[stored_keys.index(after) + 1 :] if after in stored_keys else stored_keys
        selected = [key for key in following if not content_keys or key in content_keys]
        for start in range(0, len(selected), _PAGE_SIZE):
            page = selected[start : start + _PAGE_SIZE]
            payloads = await self._redis.mget([keys.quarantined_content(portal_id, key) for key in page])
            for key, payload in zip(page, payloads, strict=True):
                if payload is None:
                    await self._redis.zrem(index, key)  # it has expired
            stored = (payload for payload in payloads if payload is not None)
            for content in await read_items(self._redis, "quarantined_content", stored, QuarantinedContent.from_bytes):
                yield content

    def open(self, content: QuarantinedContent) -> bytes:
        """Return the bytes as received.

        Raises:
            SecretUnreadable: the vault's keys do not open it.
        """
        return decompress(b64decode(self._vault.open(content.sealed)))

    async def sealed_with_another_key(self, portal_id: int, newest: int) -> int:
        """Return how many of a portal's `newest` contents the vault's keys do not open.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        newest_keys = await self._redis.zrevrange(keys.quarantine_index(portal_id), 0, newest - 1)
        names = [keys.quarantined_content(portal_id, key.decode(errors="replace")) for key in newest_keys]
        stored = [payload for payload in await self._redis.mget(names) if payload is not None] if names else []
        contents = await read_items(self._redis, "quarantined_content", stored, QuarantinedContent.from_bytes)
        return sum(not self._vault.can_open(content.sealed) for content in contents)

    async def mentioning(self, portal_id: int, ids: Collection[str]) -> tuple[QuarantinedContent, ...]:
        """Return the contents, of the portal or of none, that contain one of the ids as a number or text."""
        pattern = re.compile(rb"(?<!\d)(?:%s)(?!\d)" % b"|".join(re.escape(id_.encode()) for id_ in ids))
        matches: list[QuarantinedContent] = []
        for portal in {portal_id, NO_PORTAL}:
            contents = [content async for content in self.list(portal)]
            matches += [content for content in contents if pattern.search(self._searchable(content))]
        return tuple(matches)

    async def close(
        self, content: QuarantinedContent, outcome: Outcome, *, actor: str, reason: str, address: str = ""
    ) -> int:
        """Delete a content and record why; return 1, or 0 if another operator has closed it since."""
        record = AuditRecord(
            action=Action.EVENT, outcome=outcome, portal_id=content.portal_id, reason=reason, actor=actor,
            event_key=content.key, delivery_id=content.delivery_id, detail={"address": address} if address else {},
        )  # fmt: skip
        name = keys.quarantined_content(content.portal_id, content.key)
        if not await self._redis.delete(name):
            return 0
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zrem(keys.quarantine_index(content.portal_id), content.key)
            append(pipeline, record)
            await pipeline.execute()
        return 1

    async def delete_before(self, before_ms: int) -> int:
        """Delete the contents stored before an epoch ms; return how many."""
        deleted = 0
        for portal_id in await self.portals():
            index = keys.quarantine_index(portal_id)
            expired = [key.decode(errors="replace") for key in await self._redis.zrangebyscore(index, 0, before_ms)]
            if expired:
                await self._redis.delete(*(keys.quarantined_content(portal_id, key) for key in expired))
                deleted += await self._redis.zrem(index, *expired)
        return deleted

    def field_types(self, content: QuarantinedContent) -> dict[str, str]:
        """Return the JSON type of each field of a content, never a value; empty if it is not an object.

        Of a delivery with one event, these are the fields of the event.
        """
        try:
            data = self.open(content)
            fields = {} if has_more_values(data, _MAX_SHOWN_VALUES) else orjson.loads(data)
            if content.is_delivery and len(fields["events"]) == 1:
                fields = fields["events"][0][2]
        except (SecretUnreadable, *READ_ERRORS):
            return {}
        return {name: _JSON_TYPES[type(value)] for name, value in fields.items()} if isinstance(fields, dict) else {}

    def _stored_form(self, content: NewContent, delivery_id: str, at: int) -> bytes:
        fields = {"portal": content.portal_id, "key": content.key, "reason": content.reason, "delivery": delivery_id}
        sealed = self._vault.seal(b64encode(compress(content.content)).decode())
        return encode({**fields, "at": at, "size": len(content.content), "sealed": sealed.decode()})

    def _searchable(self, content: QuarantinedContent) -> bytes:
        try:
            data = self.open(content)
        except (SecretUnreadable, *READ_ERRORS):
            return b""
        return data + b" " + inflated(data)


def inflated(data: bytes) -> bytes:
    """Return zlib or gzip data decompressed as far as it is searched, empty if it is neither."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(data, _MAX_SEARCHED_BYTES)
    except zlib.error:
        return b""
