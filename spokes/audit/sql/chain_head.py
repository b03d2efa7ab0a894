"""`lock_head`: the end of the chain, for the one transaction that extends or signs it."""

from typing import NamedTuple

from sqlalchemy import Connection, select

from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable


class ChainHead(NamedTuple):
    """The last record of the chain, and the hash of another one that was asked for."""

    seq: int
    hash: str
    hash_at: str | None  # None if the chain has no such record, or no longer


def lock_head(connection: Connection, seq: int = 0) -> ChainHead:
    """Lock the chain until the transaction ends; return its end, and the hash of the record `seq`.

    Raises:
        AuditUnavailable: the chain's head is missing.
    """
    hash_at = select(RECORDS.c.hash).where(RECORDS.c.seq == seq).scalar_subquery()
    head = connection.execute(select(HEAD.c.seq, HEAD.c.hash, hash_at).with_for_update(of=HEAD)).one_or_none()
    if head is None:
        raise AuditUnavailable("The head of the audit chain is missing: run `spokes audit verify`.")
    return ChainHead(*head)
