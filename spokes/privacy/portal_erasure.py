"""Erase everything held on a portal some days after it removed the app.

What remains: its row, which says that it is erased, and its audit records without the ids of objects. A portal that is
installed again before that is not erased. Each step may be repeated; an interrupted erasure continues at the next run.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Final

import structlog
from redis.asyncio import Redis
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.incidents.incident_store import remove_ids
from spokes.audit.records import Action, AuditRecord
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, PRIVACY_REQUESTS, RECORDS
from spokes.audit.stream import append_now
from spokes.core.clock import now_ms
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.profile_store import ProfileStore
from spokes.portals.published_profiles import publish
from spokes.portals.store import ERASED, InstalledPortal, PortalState, PortalStore
from spokes.privacy.portal_purge import UNINSTALLED, portal_keys, purge_portal
from spokes.privacy.requests import RequestState
from spokes.privacy.stored_files import rewrite_files
from spokes.queue.quarantine import Quarantine

_DAY_MS: Final = 86_400_000
_RECORDS_PER_STEP: Final = 20_000
log = structlog.get_logger()


class PortalErasures:
    """The erasures of this deployment; the caller closes `redis` and `engine`."""

    def __init__(self, settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
        self._settings = settings
        self._redis = redis
        self._engine = engine
        self._store = PortalStore(engine, Vault.from_settings(settings))
        self._profiles = ProfileStore(engine, self._store.vault)
        self._quarantine = Quarantine.from_settings(redis, settings)

    async def run(self) -> int:
        """Erase the portals whose time has come; return how many.

        Raises:
            AuditUnavailable: the store does not answer.
            RedisError, OSError: Redis does not answer.
        """
        erased = [await self._erase(portal) for portal in await self._due()]
        if any(erased):
            for sentence in await rewrite_files(self._redis, self._engine):
                log.info("erased_data_may_remain", where=sentence)
        return sum(erased)

    async def _due(self) -> list[InstalledPortal]:
        """Return the portals whose time has come.

        Events of a portal that needs a reinstall wait for a day, so it counts as uninstalled after a day at the
        earliest.
        """
        now, wait_ms = now_ms(), self._settings.uninstalled_days * _DAY_MS
        uninstalled = await self._store.in_state_since(PortalState.UNINSTALLED, now)
        revoked = await self._store.in_state_since(PortalState.NEEDS_REINSTALL, now - max(wait_ms, _DAY_MS))
        is_begun = UNINSTALLED  # the reason of a portal whose erasure was interrupted
        waited = [p for p in uninstalled if p.changed_at <= now - wait_ms or p.reason == is_begun]
        return [portal for portal in (*waited, *revoked) if portal.reason != ERASED]

    async def _erase(self, portal: InstalledPortal) -> bool:
        """Erase one portal; return False if it is installed again, or something is left for the next run."""
        portal_id = portal.portal_id
        if portal.state is not PortalState.UNINSTALLED and not await self._store.mark(
            portal_id, PortalState.UNINSTALLED, UNINSTALLED, generation=portal.generation
        ):
            return False
        await self._store.destroy_tokens(portal_id)
        purged = await purge_portal(self._redis, portal_id, self._quarantine)
        await Archiver(
            self._redis, self._engine, load_master_key(self._settings), checkpoint_every=self._settings.checkpoint_every
        ).drain()
        records, texts = await self._erase_ids(portal_id)
        requests = await self._close_requests(portal_id)
        remaining = [names async for names in portal_keys(self._redis, portal_id)]
        if purged.busy or remaining:
            log.warning("portal_not_erased", portal_id=portal_id, busy=purged.busy, keys=sum(map(len, remaining)))
            return False
        detail = {
            **{name: count for name, count in asdict(purged).items() if name != "busy"},
            "records": records, "incident_texts": texts, "requests": requests, "uninstalled_at": portal.changed_at,
        }  # fmt: skip
        await append_now(self._redis, AuditRecord(action=Action.PORTAL_ERASED, portal_id=portal_id, detail=detail))
        await self._profiles.delete(portal_id)
        await publish(self._redis, await self._profiles.read_all())
        is_erased = await self._store.mark_erased(portal_id)
        log.info("portal_erased" if is_erased else "portal_installed_again", portal_id=portal_id)
        return is_erased

    async def _erase_ids(self, portal_id: int) -> tuple[int, int]:
        """Delete the ids of objects from the portal's records; return the numbers of records and of incident texts.

        The chain still verifies: its hashes cover the keyed hash of an id in place of the id.
        """
        [head] = await fetch(self._engine, select(HEAD.c.seq))
        last, count, texts = int(head["seq"] or 0), 0, 0
        for start in range(0, last, _RECORDS_PER_STEP):
            has_id = (
                (RECORDS.c.seq > start)
                & (RECORDS.c.seq <= start + _RECORDS_PER_STEP)
                & (RECORDS.c.portal_id == portal_id)
                & RECORDS.c.object_id.is_not(None)
                & RECORDS.c.object_hash.is_not(None)
            )
            ids = {
                str(row["object_id"]) for row in await fetch(self._engine, select(RECORDS.c.object_id).where(has_id))
            }
            if not ids:
                continue
            texts += await remove_ids(self._engine, _whole_numbers(ids))
            async with write_connection(self._engine) as connection:
                count += (await connection.execute(update(RECORDS).where(has_id).values(object_id=None))).rowcount
        return count, texts

    async def _close_requests(self, portal_id: int) -> int:
        """Close the portal's open requests of data subjects: nothing is held on them any more."""
        is_open = (PRIVACY_REQUESTS.c.portal_id == portal_id) & (PRIVACY_REQUESTS.c.state == RequestState.OPEN)
        values = {"state": RequestState.DONE.value, "object_ids": None, "done_at": now_ms()}
        async with write_connection(self._engine) as connection:
            return (await connection.execute(update(PRIVACY_REQUESTS).where(is_open).values(values))).rowcount


def _whole_numbers(ids: Collection[str]) -> list[str]:
    """Return the ids that HubSpot could have sent; a short one would match too much of a text."""
    return [text for text in ids if text.isascii() and text.isdigit()]
