"""Signed positions of the chain, to be kept outside the database.

A checkpoint is one line of text: `spokes-audit-1:kind:seq:hash:at:signature`, `at` in epoch ms. Its signature proves
that the record `seq` had this hash at that time. A copy kept elsewhere reveals what the database alone cannot: a chain
that was cut off at its end, and a chain that was rewritten from some record on.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final, Self

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.chain_head import lock_head
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import CHECKPOINTS, RECORDS
from spokes.core.clock import now_ms
from spokes.core.errors import AuditUnavailable
from spokes.core.masking import derive_key

_MAX_INTERVAL_MS: Final = 3_600_000  # between two checkpoints while the chain grows
FORMAT: Final = "spokes-audit-1"
_FIELD_COUNT: Final = 6
NO_CHECKPOINT: Final = (0, 0)  # `seq` and `at`


@unique
class CheckpointKind(StrEnum):
    """What a signed position states."""

    CHECKPOINT = "checkpoint"  # the record `seq` had this hash
    ANCHOR = "anchor"  # as CHECKPOINT, and it was the last record that retention purged


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One signed position: the hash of the record `seq` at an epoch ms."""

    kind: CheckpointKind
    seq: int
    hash: str
    at: int
    signature: str = ""
    previous: int | None = None  # `seq` of the checkpoint or anchor before it; None if an earlier version wrote it
    link: str = ""  # signature of `previous`

    def with_signature(self, key: bytes) -> Self:
        """Return a copy signed with `key`."""
        return replace(self, signature=self._sign(key))

    def linked(self, key: bytes, previous: int) -> Self:
        """Return a copy that names the checkpoint before it, so that a checkpoint that is deleted is missed."""
        return replace(self, previous=previous, link=self._sign(key, f":after {previous}"))

    def is_link_genuine(self, key: bytes) -> bool:
        """Return whether `previous` was signed with `key`."""
        return hmac.compare_digest(self._sign(key, f":after {self.previous}").encode(), self.link.encode())

    def is_genuine(self, key: bytes) -> bool:
        """Return whether it was signed with `key`."""
        return hmac.compare_digest(self._sign(key).encode(), self.signature.encode())

    def to_text(self) -> str:
        """Return the line to keep elsewhere."""
        return f"{FORMAT}:{self.kind}:{self.seq}:{self.hash}:{self.at}:{self.signature}"

    @classmethod
    def from_text(cls, line: str) -> Self:
        """Parse a line.

        Raises:
            AuditUnavailable: it is not a checkpoint.
        """
        parts = line.strip().split(":")
        try:
            if len(parts) == _FIELD_COUNT and parts[0] == FORMAT:
                return cls(CheckpointKind(parts[1]), int(parts[2]), parts[3], int(parts[4]), parts[5])
        except ValueError:
            pass
        raise AuditUnavailable(
            f"This is not a checkpoint; a checkpoint looks like {FORMAT}:checkpoint:10000:<hash>:<at>:<signature>."
        )

    def _sign(self, key: bytes, suffix: str = "") -> str:
        signed_text = f"{FORMAT}:{self.kind}:{self.seq}:{self.hash}:{self.at}{suffix}"
        return hmac.new(key, signed_text.encode(), "sha256").hexdigest()


def signing_key(master_key: str) -> bytes:
    """Return the key of the signatures, from `load_master_key`."""
    return derive_key(master_key, "audit checkpoints")


def is_due(seq: int, at: int, last: tuple[int, int], *, checkpoint_every: int) -> bool:
    """Return whether to sign the chain's end: `checkpoint_every` records or one hour after the last checkpoint.

    Args:
        last: `seq` and `at` of the last checkpoint.
    """
    return seq > last[0] and (seq - last[0] >= checkpoint_every or at - last[1] >= _MAX_INTERVAL_MS)


def store_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Store a signed position in the caller's transaction."""
    link = {"previous": checkpoint.previous, "link": checkpoint.link or None}
    fields = {"kind": checkpoint.kind, "seq": checkpoint.seq, "hash": checkpoint.hash, "at": checkpoint.at}
    connection.execute(insert(CHECKPOINTS).values(**fields, **link, signature=checkpoint.signature))


def last_checkpoint(connection: Connection) -> tuple[int, int]:
    """Return `seq` and `at` of the last checkpoint, NO_CHECKPOINT if there is none."""
    newest = select(func.coalesce(func.max(CHECKPOINTS.c.seq), 0), func.coalesce(func.max(CHECKPOINTS.c.at), 0))
    seq, at = connection.execute(newest.where(CHECKPOINTS.c.kind == CheckpointKind.CHECKPOINT)).one()
    return seq, at


def sign_chain_end(
    connection: Connection, key: bytes, seq: int, hash_: str, last: tuple[int, int], *, checkpoint_every: int
) -> Checkpoint | None:
    """Sign the chain's end if a checkpoint is due, in the transaction that extended the chain; return the checkpoint.

    With `checkpoint_every` 1 it is due after any record. `last` is the last checkpoint's position.
    """
    at = now_ms()
    if not is_due(seq, at, last, checkpoint_every=checkpoint_every):
        return None
    previous = connection.scalar(select(func.coalesce(func.max(CHECKPOINTS.c.seq), 0)))
    checkpoint = Checkpoint(CheckpointKind.CHECKPOINT, seq, hash_, at).with_signature(key).linked(key, previous or 0)
    store_checkpoint(connection, checkpoint)
    return checkpoint


async def sign_end_now(engine: AsyncEngine, key: bytes) -> Checkpoint | None:
    """Sign the end that the chain has now, unless it is signed already; return that checkpoint, None without records.

    Raises:
        AuditUnavailable: the store does not answer, or the chain's last record is not the one that its head names.
    """
    async with write_connection(engine) as connection:
        head = await connection.run_sync(lock_head)
        last_hash = await connection.scalar(select(RECORDS.c.hash).where(RECORDS.c.seq == head.seq))
        is_purged = last_hash is None and not await connection.scalar(select(func.count()).select_from(RECORDS))
        if last_hash != head.hash and not is_purged:
            raise AuditUnavailable(
                "The end of the audit chain is broken, and was not signed: run `spokes audit verify`."
            )
        last = await connection.run_sync(last_checkpoint)
        await connection.run_sync(sign_chain_end, key, head.seq, head.hash, last, checkpoint_every=1)
    checkpoints = [each for each in await load_checkpoints(engine) if each.kind is CheckpointKind.CHECKPOINT]
    return checkpoints[-1] if checkpoints else None


async def load_checkpoints(engine: AsyncEngine) -> list[Checkpoint]:
    """Return every signed position in the store, oldest first.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    rows = await fetch(engine, select(CHECKPOINTS).order_by(CHECKPOINTS.c.seq, CHECKPOINTS.c.kind.desc()))
    return [
        Checkpoint(
            CheckpointKind(str(row["kind"])),
            int(row["seq"] or 0),
            str(row["hash"]),
            int(row["at"] or 0),
            str(row["signature"]),
            None if row["previous"] is None else int(row["previous"]),
            str(row["link"] or ""),
        )
        for row in rows
    ]


def newest_anchor(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """Return the newest anchor, after which the remaining records begin; None if nothing was purged."""
    anchors = [checkpoint for checkpoint in checkpoints if checkpoint.kind is CheckpointKind.ANCHOR]
    return max(anchors, key=lambda anchor: anchor.seq, default=None)
