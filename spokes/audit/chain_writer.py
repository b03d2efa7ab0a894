"""Add records to the chain in SQL. Rule: whoever extends the chain locks its head first, and adds no record twice.

Here also the ids of people who were erased end: their records keep a keyed hash of the id, which is what the chain's
hashes cover, and lose the id itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from spokes.audit.chain import chain_rows
from spokes.audit.checkpoints import sign_chain_end, signing_key
from spokes.audit.object_hashes import hash_for_row, object_hash_key
from spokes.audit.records import Action
from spokes.audit.rows import FIELD_NAMES, Row
from spokes.audit.sql.tables import ERASED_OBJECTS, HEAD, RECORDS
from spokes.core.errors import AuditUnavailable

_COLUMNS: Final = ("seq", "hash", *FIELD_NAMES)
_INSERT_SQLITE: Final = f"INSERT INTO audit_records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our names
# One parameter for all ids: spelling a statement with thousands of them costs more than carrying it out.
_KNOWN_IDS_POSTGRESQL: Final = text("SELECT id FROM audit_records WHERE id = ANY(CAST(:ids AS text[]))")
_KNOWN_IDS_SQLITE: Final = text("SELECT id FROM audit_records WHERE id IN (SELECT value FROM json_each(:ids))")


@dataclass(slots=True)
class ChainWriter:
    """What one archiver knows between two batches: its keys, and whose ids may not be kept.

    `every`: records between two checkpoints.
    """

    master_key: str = field(repr=False)
    checkpoint_every: int
    _erased_hashes: set[str] = field(default_factory=set)
    _erased_seq: int = 0

    async def append(self, connection: AsyncConnection, rows: Iterable[Row]) -> list[Row]:
        """Add, in order, those rows that the chain does not hold yet; return them.

        Raises:
            AuditUnavailable: the chain's end is missing.
        """
        head = (await connection.execute(select(HEAD.c.seq, HEAD.c.hash).with_for_update())).one_or_none()
        if head is None:
            raise AuditUnavailable("The end of the audit's chain is missing: run `python -m spokes audit verify`.")
        fresh = await _not_archived(connection, rows)
        if not fresh:
            return []
        await self._load_erased(connection)
        key = object_hash_key(self.master_key)
        for row in fresh:
            row["object_hash"] = hash_for_row(key, row) or row["object_hash"]
        erasures = [dict(row) for row in fresh if row["action"] == Action.PRIVACY_ERASED and row["object_id"]]
        gone = self._erased_hashes.union(str(row["object_hash"]) for row in erasures)
        for row in fresh:
            if row["object_hash"] in gone:
                row["object_id"] = None
        added = chain_rows(fresh, head.seq, head.hash)
        await _insert(connection, added)
        end = added[-1]
        places = {row["id"]: int(row["seq"] or 0) for row in added}
        for row in erasures:
            await self._erase(connection, row, places[row["id"]])
        await connection.execute(update(HEAD).values(seq=end["seq"], hash=end["hash"]))
        await sign_chain_end(
            connection,
            signing_key(self.master_key),
            int(end["seq"] or 0),
            str(end["hash"]),
            checkpoint_every=self.checkpoint_every,
        )
        return added

    async def _load_erased(self, connection: AsyncConnection) -> None:
        """Read what was erased since the last batch, by whichever process."""
        news = await connection.execute(select(ERASED_OBJECTS).where(ERASED_OBJECTS.c.seq > self._erased_seq))
        for object_hash, seq in news:
            self._erased_hashes.add(object_hash)
            self._erased_seq = max(self._erased_seq, seq)

    async def _erase(self, connection: AsyncConnection, erasure: Row, seq: int) -> None:
        """Take the id out of the object's records, now and in all batches to come.

        Records of before there were hashes keep it: their place in the chain hangs on it.
        """
        known = select(ERASED_OBJECTS.c.seq).where(ERASED_OBJECTS.c.object_hash == erasure["object_hash"])
        if (await connection.execute(known)).first() is None:
            await connection.execute(insert(ERASED_OBJECTS).values(object_hash=erasure["object_hash"], seq=seq))
        same = [RECORDS.c[name] == erasure[name] for name in ("object_id", "object_hash")]
        await connection.execute(update(RECORDS).where(*same).values(object_id=None))


async def _not_archived(connection: AsyncConnection, rows: Iterable[Row]) -> list[Row]:
    """Leave out what is archived already: a writer whose answer was lost appends its record again."""
    by_id: dict[str | int | None, Row] = {}
    for row in rows:
        by_id.setdefault(row["id"], row)
    ids = list(by_id)
    postgresql = connection.dialect.name == "postgresql"
    asked = {"ids": ids} if postgresql else {"ids": orjson.dumps(ids).decode()}
    for known in await connection.scalars(_KNOWN_IDS_POSTGRESQL if postgresql else _KNOWN_IDS_SQLITE, asked):
        del by_id[known]
    return list(by_id.values())


async def _insert(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Insert rows by what each driver is quickest at; for PostgreSQL that is COPY."""
    tuples = [tuple([row[name] for name in _COLUMNS]) for row in rows]
    if connection.dialect.name != "postgresql":
        await connection.exec_driver_sql(_INSERT_SQLITE, tuples)
        return
    raw = (await connection.get_raw_connection()).driver_connection
    # The transaction is the one that the lock on the head has opened on this same connection.
    assert raw is not None  # noqa: S101 - SQLAlchemy has just used it
    try:
        await raw.copy_records_to_table(RECORDS.name, records=tuples, columns=_COLUMNS)
    except AttributeError:  # asyncpg's word for a connection that is lost before all is sent; it says no more than this
        raise ConnectionResetError from None
