"""Ledger of our own writes, so that they do not come back as work. Rule: keyed hashes stand in it, never a value.

An entry is made before the write, because HubSpot may send the event before it answers the call.
"""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable
from spokes.core.masking import keyed_hash

ENTRY_TTL_S: Final = 900  # HubSpot sends an event within seconds, under load within minutes
_MAX_COMMANDS: Final = 500  # commands of one round trip

LedgerCommand: TypeAlias = tuple[Literal["expect", "forget", "ask"], str, int]  # what, entry, what the write rests on


_PHONE: Final = re.compile(r"\+[\d\s().-]{6,}")
_NUMBER: Final = re.compile(r"-?[\d,]*\d(\.\d*)?|-?\.\d+")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d([t ][\d:.]+(z|[+-]\d\d:?\d\d)?)?")


def normalise_value(value: str) -> str:
    """Return what a value is whichever way it is written, for HubSpot writes values its own way.

    Case and surrounding blanks do not count, nor how a number, a moment or an international phone number is spelled.
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
            moment = datetime.fromisoformat(text.upper())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return str(round(moment.timestamp() * 1000))
    return text


class OwnWriteLedger:
    """Asks and answers share round trips: whoever comes while one is under way goes with the next."""

    def __init__(self, redis: Redis, key: bytes, *, ttl_s: int = ENTRY_TTL_S) -> None:
        """Keep the ledger in `redis`.

        Args:
            key: of the hashes; whoever lacks it can neither read a value nor try one out.
            ttl_s: seconds after which a change back to our value counts as somebody else's.
        """
        self._redis = redis
        self._key = key
        self._ttl_s = ttl_s
        self._waiting: deque[tuple[LedgerCommand, asyncio.Future[bytes | None]]] = deque()
        self._committer: asyncio.Task[None] | None = None

    async def record_write(
        self,
        portal_id: int,
        object_type: str,
        object_id: str,
        properties: Mapping[str, str],
        *,
        based_on_ms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Enter a write that is about to be made.

        Args:
            object_type: as events name it: `contact`.
            rests_on: by property, how new the truth is from which its value was made, in epoch ms by HubSpot's clock;
                none where nothing was read.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        await self._submit_all("expect", portal_id, object_type, object_id, properties, based_on_ms=based_on_ms)

    async def remove_write(
        self, portal_id: int, object_type: str, object_id: str, properties: Mapping[str, str]
    ) -> None:
        """Strike out a write that HubSpot has refused."""
        await self._submit_all("forget", portal_id, object_type, object_id, properties)

    async def is_echo(
        self, portal_id: int, object_type: str, object_id: str, property_name: str, value: str | None
    ) -> bool:
        """Return whether a change is one of ours; asking leaves the entry, so that it can be asked again after a crash.

        Args:
            value: the new value, None or empty when it was cleared. A sensitive one is withheld by HubSpot: do not ask.
        """
        entry = self._entry_key(portal_id, object_type, object_id, property_name, value or "")
        return await self._submit(("ask", entry, 0)) is not None

    async def basis_of_write(
        self, portal_id: int, object_type: str, object_id: str, property_name: str, value: str
    ) -> int | None:
        """Return what it rested on that we have set a property to this very value of late, None where we have not.

        Another spelling of the value is not ours. See `expect`; 0 where nothing was read.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        entry = self._entry_key(portal_id, object_type, object_id, property_name, value, exact_spelling=True)
        told = await self._submit(("ask", entry, 0))
        return None if told is None else int(told)

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
        """Return the keys one of which stands in Redis if the change is one of ours.

        Args:
            value: the new value, empty when it was cleared.
            by_us: HubSpot says that our app made it: then that we wrote this property is enough.
            by_another: HubSpot says that somebody else made it: then the value must be ours to the letter. A person's
                change whose handler is tried again would otherwise be taken for the echo of its own first try, where
                the value that is to be written differs in spelling only.
        """
        name = self._entry_key(portal_id, object_type, object_id, property_name, value, exact_spelling=made_by_other)
        if not made_by_us:
            return (name,)
        return name, self._entry_key(portal_id, object_type, object_id, property_name, None)

    async def _submit_all(
        self, what: Literal["expect", "forget"], portal_id: int, object_type: str, object_id: str,
        properties: Mapping[str, str], *, based_on_ms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        entries = [
            self._entry_key(portal_id, object_type, object_id, name, value) for name, value in properties.items()
        ]
        if what == "expect":  # that we write the property at all; a refused write leaves that of others alone
            entries += [self._entry_key(portal_id, object_type, object_id, name, None) for name in properties]
        spelled = [
            (
                self._entry_key(portal_id, object_type, object_id, name, value, exact_spelling=True),
                based_on_ms.get(name, 0),
            )
            for name, value in properties.items()
        ]
        commands: list[LedgerCommand] = [
            (what, entry, at) for entry, at in (*((entry, 0) for entry in entries), *spelled)
        ]
        await asyncio.gather(*map(self._submit, commands))

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
        told = value if value is None or exact_spelling else normalise_value(value)
        identity = orjson.dumps((object_type, object_id, name, told, exact_spelling)).decode()
        return f"spokes:{portal_id}:echo:{keyed_hash(self._key, identity)}"

    async def _submit(self, command: LedgerCommand) -> bytes | None:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_waiting())
        return await answer

    async def _commit_waiting(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_COMMANDS))]
                try:
                    results = await self._execute([command for command, _ in group])
                except (RedisError, OSError, TimeoutError):
                    for _, answer in group:
                        if not answer.done():
                            answer.set_exception(CRMUnavailable())
                else:
                    for (_, answer), result in zip(group, results, strict=True):
                        if not answer.done():
                            answer.set_result(result)
        finally:
            self._committer = None

    async def _execute(self, commands: list[LedgerCommand]) -> list[bytes | None]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for what, entry, rests_on in commands:
                if what == "expect":
                    pipeline.set(entry, rests_on, ex=self._ttl_s)
                elif what == "forget":
                    pipeline.unlink(entry)
                else:
                    pipeline.get(entry)
            return cast("list[bytes | None]", await pipeline.execute())
