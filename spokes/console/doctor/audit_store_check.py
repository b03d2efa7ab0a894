"""Check the audit store: it answers, its schema is current, and its chain ends at the newest record."""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Column, Integer, MetaData, Table, select, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from spokes.audit.chain import GENESIS, chain_hash
from spokes.audit.checkpoints import Checkpoint, load_checkpoints, newest_anchor, signing_key
from spokes.audit.rows import Row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.audit.sql.indexes import missing_indexes
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.console.doctor.findings import Finding, fault, ok, warning
from spokes.core.errors import AuditReadOnly, AuditUnavailable
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings

TOPIC: Final = "audit store"
_CHAIN_TOPIC: Final = "audit chain"
_PROBE: Final = Table("spokes_doctor_probe", MetaData(), Column("id", Integer))


async def check_audit_store(settings: Settings) -> list[Finding]:
    """Check the schema and the last two records of the chain; `audit verify` recomputes the whole chain."""
    engine = open_engine(settings.database_address, statement_timeout_s=10.0)
    try:
        if await schema.revision(engine) is None:
            await _require_creatable(engine)
            return [ok(TOPIC, f"{engine.dialect.name} answers. It has no tables yet: the first worker creates them.")]
        await schema.require_current(engine)
        if lost := await schema.missing_tables(engine):
            return [_lost_tables(lost)]
        heads, last_records = await _read_chain_end(engine)
        checkpoints = await load_checkpoints(engine)
        missing = await missing_indexes(engine)
        await _require_writable(engine)
    except AuditReadOnly as error:
        return [fault(TOPIC, f"{error} Audit records stay in Redis until then.")]
    except AuditUnavailable as error:
        # A warning: the stream in Redis keeps the records until the store is available, so none is lost.
        return [warning(TOPIC, f"{str(error).rstrip('.')}. Audit records stay in Redis until the store is available.")]
    finally:
        await engine.dispose()
    return [
        _assess_indexes(missing) or ok(TOPIC, f"{engine.dialect.name} answers, and its schema is up to date."),
        assess_chain_end(heads, last_records, newest_anchor(checkpoints)),
        *assess_signatures(checkpoints, signing_key(load_master_key(settings))),
    ]


async def _read_chain_end(engine: AsyncEngine) -> tuple[list[Row], list[Row]]:
    """Return the chain's head and its last two records, newest first, of one moment: the archiver may be writing.

    One statement reads both; a head that is read by itself counts only where no record exists.
    """
    heads = await fetch(engine, select(HEAD.c.seq, HEAD.c.hash))
    head = [select(column).scalar_subquery().label(f"head_{column.name}") for column in (HEAD.c.seq, HEAD.c.hash)]
    rows = await fetch(engine, select(RECORDS, *head).order_by(RECORDS.c.seq.desc()).limit(2))
    for row in rows:  # each with the same head
        seq, hash_ = row.pop("head_seq"), row.pop("head_hash")
        heads = [] if seq is None else [{"seq": seq, "hash": hash_}]
    return heads, rows


async def _require_creatable(engine: AsyncEngine) -> None:
    """Create a table as the first worker does, and take it back.

    Raises:
        AuditUnavailable: the store refuses new tables.
    """
    async with write_connection(engine) as connection:
        savepoint = await connection.begin_nested()
        await connection.execute(CreateTable(_PROBE))
        await savepoint.rollback()


async def _require_writable(engine: AsyncEngine) -> None:
    """Lock the chain's head as the archiver does; nothing changes.

    Raises:
        AuditUnavailable: the store refuses writes.
    """
    async with write_connection(engine) as connection:
        await connection.execute(update(HEAD).where(HEAD.c.id == 0).values(seq=0))  # no row has this id


def _lost_tables(names: list[str]) -> Finding:
    return fault(
        TOPIC,
        f"The audit store lacks the tables {', '.join(names)}: part of it was deleted. Restore the whole database from "
        "a backup (docs/backup.md).",
    )


def _assess_indexes(missing: list[str]) -> Finding | None:
    if not missing:
        return None
    return warning(
        TOPIC,
        f"The audit store lacks {len(missing)} indexes ({', '.join(missing)}), so searches are slow. Run `spokes "
        "migrate`, which builds them while Spokes runs.",
    )


def assess_signatures(checkpoints: list[Checkpoint], key: bytes) -> Iterator[Finding]:
    """Check that the newest signed position of the chain was signed with our AUDIT_KEY."""
    if checkpoints and not checkpoints[-1].is_genuine(key):
        yield fault(
            _CHAIN_TOPIC,
            f"The newest checkpoint, record {checkpoints[-1].seq:,}, was not signed with this AUDIT_KEY: AUDIT_KEY is "
            "wrong, or the audit was changed. Set the AUDIT_KEY of this deployment, then run `spokes audit verify`.",
        )


def assess_chain_end(heads: list[Row], last_records: list[Row], anchor: Checkpoint | None = None) -> Finding:
    """Compare the chain's head with its newest records.

    Args:
        heads: the rows of the head table, at most one.
        last_records: the last two records, newest first.
        anchor: the signed position up to which retention purged; None if it never did.
    """
    if not last_records and (not heads or (heads[0]["seq"], heads[0]["hash"]) == (0, GENESIS)):
        return ok(_CHAIN_TOPIC, "The chain is empty.")
    if heads and not last_records and anchor and (anchor.seq, anchor.hash) == (heads[0]["seq"], heads[0]["hash"]):
        return ok(_CHAIN_TOPIC, f"Retention purged all records, up to {anchor.seq:,}.", seq=anchor.seq)
    if not heads or not last_records:
        return fault(
            _CHAIN_TOPIC,
            "The chain's records or its head are missing: part of the audit was deleted. Run `spokes audit verify`.",
        )
    head, newest = heads[0], last_records[0]
    previous_hash = str(last_records[1]["hash"]) if len(last_records) > 1 else GENESIS
    is_linked = chain_hash(previous_hash, newest) == newest["hash"] or len(last_records) == 1
    if (head["seq"], head["hash"]) != (newest["seq"], newest["hash"]) or not is_linked:
        return fault(
            _CHAIN_TOPIC,
            f"The chain's head, record {head['seq']}, does not match the newest records: records were changed or "
            "deleted. Run `spokes audit verify` to find the first one.",
        )
    return ok(_CHAIN_TOPIC, f"The chain's head matches the newest record, {head['seq']:,}.", seq=head["seq"])
