"""The end of the chain, as it is stored, and locked for the one transaction that extends or signs it."""

from typing import NamedTuple

from sqlalchemy import Connection, Select, select

from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable


class ChainHead(NamedTuple):
    """The last record of the chain, and the hash of another one that was asked for."""

    seq: int
    hash: str
    hash_at: str | None  # None if the chain has no such record, or no longer


def read_head(connection: Connection, seq: int) -> ChainHead | None:
    """Return the end of the chain, with the hash of the record `seq`; None if the chain's head is missing."""
    head = connection.execute(_with_hash_at(seq)).one_or_none()
    return None if head is None else ChainHead._make(head)


def lock_head(connection: Connection, seq: int = 0) -> ChainHead:
    """Lock the chain until the transaction ends; return its end, with the hash of the record `seq`.

    Raises:
        AuditUnavailable: the chain's head is missing.
    """
    head = connection.execute(_with_hash_at(seq).with_for_update(of=HEAD)).one_or_none()
    if head is None:
        raise AuditUnavailable("The head of the audit chain is missing: run `spokes audit verify`.")
    return ChainHead._make(head)


def _with_hash_at(seq: int) -> Select[tuple[int, str, str]]:
    return select(HEAD.c.seq, HEAD.c.hash, select(RECORDS.c.hash).where(RECORDS.c.seq == seq).scalar_subquery())
