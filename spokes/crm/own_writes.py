"""The ledger of our own writes in Redis, by which the events that HubSpot sends for them (echoes) are recognised.

It holds keyed hashes, never a value. An entry is made before the write, because HubSpot may send the event before it
answers the call. Concurrent callers share round trips.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable
from spokes.core.masking import hash_with, key_state
from spokes.core.redis import keys
from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.scripts import read_script

if TYPE_CHECKING:
    import asyncio

ENTRY_TTL_S: Final = 900  # HubSpot sends an event within seconds, under load within minutes
_SCRIPT: Final = read_script(__file__, "record_own_writes.lua")
_MAX_KEYS: Final = 500  # of one round trip

_PHONE: Final = re.compile(r"\+[\d\s().-]{6,}")
_NUMBER: Final = re.compile(r"-?[\d,]*\d(\.\d*)?|-?\.\d+")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d([t ][\d:.]+(z|[+-]\d\d:?\d\d)?)?")


def normalise_value(value: str) -> str:
    """Return a value in one form for all the ways in which HubSpot may reformat it.

    Case, surrounding blanks, and the spelling of numbers, timestamps and international phone numbers do not matter.
    """
    text = value.strip().casefold()
    if _PHONE.fullmatch(text):
        return "+" + "".join(filter(str.isdecimal, text))
    if _NUMBER.fullmatch(text):
        number = text.replace(",", "")
        if "." in number:
            number = number.rstrip("0").rstrip(".")
        return number.lstrip("0") or "0"
    if _DATE.fullmatch(text):
        with suppress(ValueError):
            timestamp = datetime.fromisoformat(text.upper())
            timestamp = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
            return str(round(timestamp.timestamp() * 1000))
    return text


class OwnWriteLedger:
    """Records, removes and looks up our recent writes of property values."""

    def __init__(self, redis: Redis, key: bytes, *, ttl_s: int = ENTRY_TTL_S) -> None:
        """Keep the ledger in `redis`.

        Args:
            key: of the hashes; without it, values can neither be read nor guessed and tested.
            ttl_s: seconds after which a change to the value we wrote no longer counts as ours.
        """
        self._redis = redis
        self._key_state = key_state(key)
        self._ttl_s = ttl_s
        self._script = redis.register_script(_SCRIPT)
        self._records: GroupCommit[dict[str, int], None] = GroupCommit(
            self._record, max_weight=_MAX_KEYS, weight=len, gathers=True
        )
        self._reads: GroupCommit[str, bytes | None] = GroupCommit(self._read, max_weight=_MAX_KEYS, gathers=True)
        self._removals: GroupCommit[list[str], None] = GroupCommit(self._remove, max_weight=_MAX_KEYS, weight=len)

    def record_write(
        self,
        portal_id: int,
        object_type: str,
        object_id: str,
        properties: Mapping[str, str],
        *,
        based_on_ms: Mapping[str, int] = MappingProxyType({}),
    ) -> "asyncio.Future[None]":
        """Record a write that is about to be made; await the result before the write.

        Args:
            object_type: in the singular, as events name it: `contact`.
            based_on_ms: by property, the time of the data that its value was computed from (epoch ms by HubSpot's
                clock); nothing for properties that were not read.

        The future's error is CRMUnavailable if Redis does not answer.
        """
        entry = (portal_id, object_type, object_id)
        values: dict[str, int] = {}
        for name, value in properties.items():
            values[self._entry_key(*entry, name, value)] = 0
            values[self._entry_key(*entry, name, None)] = 0
            values[self._entry_key(*entry, name, value, exact_spelling=True)] = based_on_ms.get(name, 0)
        return self._records.submit(values)

    async def remove_write(
        self, portal_id: int, object_type: str, object_id: str, properties: Mapping[str, str]
    ) -> None:
        """Remove a write that HubSpot refused.

        The entry that we wrote the property at all stays: it may belong to another write.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        entry = (portal_id, object_type, object_id)
        await self._removals.submit(
            [
                self._entry_key(*entry, name, value, exact_spelling=exact)
                for name, value in properties.items()
                for exact in (False, True)
            ]
        )

    async def is_echo(
        self, portal_id: int, object_type: str, object_id: str, property_name: str, value: str | None
    ) -> bool:
        """Return whether a change is one of ours. The entry stays, so that the event can run again after a crash.

        Args:
            value: the new value, None or empty if it was cleared. HubSpot withholds sensitive values: do not look
                those up.
        """
        key = self._entry_key(portal_id, object_type, object_id, property_name, value or "")
        return await self._reads.submit(key) is not None

    async def basis_of_write(
        self, portal_id: int, object_type: str, object_id: str, property_name: str, value: str
    ) -> int | None:
        """Return the time (epoch ms) of the data our recent write of exactly this value was based on; None without one.

        The spelling must match too. 0 if nothing was read for the write; see `record_write`.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        key = self._entry_key(portal_id, object_type, object_id, property_name, value, exact_spelling=True)
        based_on_ms = await self._reads.submit(key)
        return None if based_on_ms is None else int(based_on_ms)

    def keys_for_change(
        self,
        portal_id: int,
        object_type: str,
        object_id: str,
        property_name: str,
        value: str,
        *,
        made_by_us: bool,
        made_by_other: bool = False,
    ) -> tuple[str, ...]:
        """Return keys; if the change is one of ours, at least one of them exists in Redis.

        Args:
            value: the new value, empty if it was cleared.
            made_by_us: HubSpot says that our app made the change; then any recent write to this property counts.
            made_by_other: HubSpot says that another source made the change; then only exactly our spelling counts.
                Otherwise a person's change whose handler is retried would count as the echo of the first attempt, if
                the handler's value differs in spelling only.
        """
        key = self._entry_key(portal_id, object_type, object_id, property_name, value, exact_spelling=made_by_other)
        if not made_by_us:
            return (key,)
        return key, self._entry_key(portal_id, object_type, object_id, property_name, None)

    def _entry_key(
        self,
        portal_id: int,
        object_type: str,
        object_id: str,
        name: str,
        value: str | None,
        *,
        exact_spelling: bool = False,
    ) -> str:
        """Return the key of an entry; a None value means that we wrote the property at all."""
        text = value if value is None or exact_spelling else normalise_value(value)
        identity = orjson.dumps((object_type, object_id, name, text, exact_spelling))
        return keys.own_write(portal_id, hash_with(self._key_state, identity))

    async def _record(self, groups: list[dict[str, int]]) -> list[None]:
        values = {key: value for group in groups for key, value in group.items()}
        try:
            await self._script(keys=list(values), args=[self._ttl_s, *values.values()])
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        return [None] * len(groups)

    async def _read(self, names: list[str]) -> list[bytes | None]:
        try:
            return cast("list[bytes | None]", await self._redis.mget(names))
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None

    async def _remove(self, groups: list[list[str]]) -> list[None]:
        try:
            await self._redis.unlink(*(name for group in groups for name in group))
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        return [None] * len(groups)
