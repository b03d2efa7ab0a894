"""Append records to the chain in SQL. The caller has locked the chain's head, and no record is added twice.

It also removes the ids of erased objects: their records keep only the object hash, which the chain covers in place of
the id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from sqlalchemy import Connection, insert, select, text, update

from spokes.audit.chain import chain_rows
from spokes.audit.checkpoints import (
    NO_CHECKPOINT,
    Checkpoint,
    is_due,
    last_checkpoint,
    sign_chain_end,
    signing_key,
)
from spokes.audit.incident_ids import mask_ids
from spokes.audit.object_hashes import hash_for_row, object_hash_key
from spokes.audit.records import FIELD_NAMES, Action
from spokes.audit.rows import Row
from spokes.audit.sql.chain_head import ChainHead
from spokes.audit.sql.tables import ERASED_OBJECTS, HEAD, RECORDS
from spokes.core.clock import now_ms

_COLUMNS: Final = ("seq", "hash", *FIELD_NAMES)
_INSERT_SQLITE: Final = f"INSERT INTO audit_records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our names
# One parameter for all ids: building a statement with thousands of parameters costs more than executing it. One
# statement for both questions: while a worker is busy, each answer of PostgreSQL waits for a turn of its event loop.
_KNOWN: Final = (
    "SELECT id, NULL AS object_hash, 0 AS seq FROM audit_records WHERE id {among} UNION ALL "
    "SELECT NULL, object_hash, seq FROM audit_erased WHERE seq > :erased_seq"
)
_KNOWN_POSTGRESQL: Final = text(_KNOWN.format(among="= ANY(CAST(:ids AS text[]))"))
_KNOWN_SQLITE: Final = text(_KNOWN.format(among="IN (SELECT value FROM json_each(:ids))"))


@dataclass(slots=True)
class ChainWriter:
    """Appends an archiver's batches; caches the hashes of erased objects and the last checkpoint between them.

    `checkpoint_every`: records between two checkpoints.
    """

    master_key: str = field(repr=False)
    checkpoint_every: int
    _erased_hashes: set[str] = field(default_factory=set)
    _erased_seq: int = 0
    _last_checkpoint: tuple[int, int] = NO_CHECKPOINT
    new_checkpoint: Checkpoint | None = None  # of the last batch

    def append(self, connection: Connection, rows: Iterable[Row], head: ChainHead) -> list[Row]:
        """Append, in order, the rows that are not archived yet, after `head`, which is locked; return them."""
        new_rows = self._not_archived(connection, rows)
        if not new_rows:
            return []
        key = object_hash_key(self.master_key)
        for row in new_rows:
            row["object_hash"] = hash_for_row(key, row) or row["object_hash"]
        erasures = [dict(row) for row in new_rows if row["action"] == Action.PRIVACY_ERASED and row["object_id"]]
        erased_hashes = self._erased_hashes.union(str(row["object_hash"]) for row in erasures)
        for row in new_rows:
            if row["object_hash"] in erased_hashes:
                row["object_id"] = None
        added = chain_rows(new_rows, head.seq, head.hash)
        _insert(connection, added)
        seq_by_id = {row["id"]: int(row["seq"] or 0) for row in added}
        for row in erasures:
            self._erase(connection, row, seq_by_id[row["id"]])
        last = added[-1]
        connection.execute(update(HEAD).values(seq=last["seq"], hash=last["hash"]))
        self.new_checkpoint = self._sign_end(connection, int(last["seq"] or 0), str(last["hash"]))
        return added

    def _not_archived(self, connection: Connection, rows: Iterable[Row]) -> list[Row]:
        """Return each row that is not archived yet, once; learn which objects any process erased since the last batch.

        A writer whose response was lost appends its record again.
        """
        by_id: dict[str | int | None, Row] = {}
        for row in rows:
            by_id.setdefault(row["id"], row)
        is_postgresql, ids = connection.dialect.name == "postgresql", list(by_id)
        known = connection.execute(
            _KNOWN_POSTGRESQL if is_postgresql else _KNOWN_SQLITE,
            {"ids": ids if is_postgresql else orjson.dumps(ids).decode(), "erased_seq": self._erased_seq},
        )
        for known_id, object_hash, seq in known:
            if object_hash is None:
                del by_id[known_id]
            else:
                self._erased_hashes.add(object_hash)
                self._erased_seq = max(self._erased_seq, seq)
        return list(by_id.values())

    def _sign_end(self, connection: Connection, seq: int, hash_: str) -> Checkpoint | None:
        """Sign the chain's end if a checkpoint is due; it is not before one is due after the last one that we know."""
        last = self._last_checkpoint
        if last[0] < seq and not is_due(seq, now_ms(), last, checkpoint_every=self.checkpoint_every):
            return None  # a chain that is shorter than we know was restored
        key, every = signing_key(self.master_key), self.checkpoint_every
        self._last_checkpoint = last_checkpoint(connection)
        return sign_chain_end(connection, key, seq, hash_, self._last_checkpoint, checkpoint_every=every)

    def _erase(self, connection: Connection, erasure: Row, seq: int) -> None:
        """Delete the object's id from its records, now and in all later batches.

        Records from before object hashes existed keep the id, because their hash in the chain covers it.
        """
        known = select(ERASED_OBJECTS.c.seq).where(ERASED_OBJECTS.c.object_hash == erasure["object_hash"])
        if connection.execute(known).first() is None:
            connection.execute(insert(ERASED_OBJECTS).values(object_hash=erasure["object_hash"], seq=seq))
        same_object = [RECORDS.c[name] == erasure[name] for name in ("object_id", "object_hash")]
        connection.execute(update(RECORDS).where(*same_object).values(object_id=None))
        mask_ids(connection, [str(erasure["object_id"])])


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows by the fastest way of each driver; for PostgreSQL that is COPY."""
    tuples = [tuple([row[name] for name in _COLUMNS]) for row in rows]
    if connection.dialect.name != "postgresql":
        connection.exec_driver_sql(_INSERT_SQLITE, tuples)
        return
    dbapi_connection = connection.connection.dbapi_connection
    # This connection is in the transaction that holds the lock on the head.
    assert dbapi_connection is not None  # noqa: S101 - SQLAlchemy has just used it
    try:
        dbapi_connection.run_async(
            lambda raw: raw.copy_records_to_table(RECORDS.name, records=tuples, columns=_COLUMNS)
        )
    except AttributeError:  # what asyncpg raises when the connection is lost during the COPY; it has no other detail
        raise ConnectionResetError from None
