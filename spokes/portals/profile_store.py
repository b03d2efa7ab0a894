"""The profiles of portals in SQL. Redis has a copy for the processes that have no SQL: `published_profiles`.

Every method raises AuditUnavailable if the store does not answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import INSTALLED_PORTALS, PORTAL_SETTINGS
from spokes.core.clock import now_ms
from spokes.core.errors import SecretUnreadable, UnreadableDelivery
from spokes.core.vault import Vault
from spokes.portals.profile import PortalProfile

_P: Final = PORTAL_SETTINGS.c


@dataclass(frozen=True, slots=True)
class ProfileStore:
    """The profiles of a deployment; the caller closes `engine`."""

    engine: AsyncEngine
    vault: Vault = field(repr=False)

    async def read(self, portal_id: int) -> PortalProfile:
        """Return a portal's profile, an empty one if nothing is set."""
        async with read_connection(self.engine) as connection:
            return await _read(connection, portal_id)

    async def read_all(self) -> Sequence[PortalProfile]:
        """Return the profiles of all portals that have one, by id; unreadable and empty ones are left out."""
        async with read_connection(self.engine) as connection:
            rows = (await connection.execute(select(_P.portal_id, _P.settings).order_by(_P.portal_id))).all()
        profiles = (_parsed(row.portal_id, row.settings) for row in rows)
        return [profile for profile in profiles if profile is not None and not profile.is_empty]

    async def change(self, portal_id: int, change: Callable[[PortalProfile], PortalProfile]) -> PortalProfile:
        """Replace a portal's profile by what `change` returns for it, in one transaction; return the new one.

        The row is created before it is locked and stays while it is empty, so that a change at the same time waits
        for this one instead of reading no row.
        """
        async with write_connection(self.engine) as connection:
            insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
            empty = {"portal_id": portal_id, "settings": PortalProfile(portal_id).to_json(), "changed_at": now_ms()}
            await connection.execute(insert(PORTAL_SETTINGS).values(empty).on_conflict_do_nothing())
            profile = change(await _read(connection, portal_id, for_update=True))
            values = {"settings": profile.to_json(), "changed_at": now_ms()}
            await connection.execute(update(PORTAL_SETTINGS).where(_P.portal_id == portal_id).values(values))
            installed = INSTALLED_PORTALS.c
            await connection.execute(  # lists of installed portals read the name there
                update(INSTALLED_PORTALS).where(installed.portal_id == portal_id).values(name=profile.shown_name)
            )
        return profile

    async def delete(self, portal_id: int) -> None:
        """Delete a portal's profile."""
        async with write_connection(self.engine) as connection:
            await connection.execute(delete(PORTAL_SETTINGS).where(_P.portal_id == portal_id))

    def values(self, profile: PortalProfile) -> dict[str, str]:
        """Return the settings of handlers' own by name.

        Raises:
            SecretUnreadable: none of our keys opens them.
        """
        return opened_values(self.vault, profile)

    def with_values(self, profile: PortalProfile, values: dict[str, str]) -> PortalProfile:
        """Return a profile with these settings of handlers' own."""
        return with_values(self.vault, profile, values)

    async def sealed(self) -> Sequence[tuple[int, bytes]]:
        """Return the sealed settings of handlers' own by portal."""
        profiles = await self.read_all()
        return [(each.portal_id, each.sealed_values.encode()) for each in profiles if each.sealed_values]

    async def reseal(self) -> tuple[int, Sequence[int]]:
        """Reseal the settings sealed by an older key with the newest one.

        Return how many were resealed, and the portals whose settings none of our keys opens.
        """
        count = 0
        unreadable: list[int] = []
        for profile in await self.read_all():
            sealed = profile.sealed_values.encode()
            if not sealed or self.vault.uses_newest_key(sealed):
                continue
            try:
                await self.change(profile.portal_id, self._resealed)
            except SecretUnreadable:
                unreadable.append(profile.portal_id)
            else:
                count += 1
        return count, unreadable

    def _resealed(self, profile: PortalProfile) -> PortalProfile:
        if not profile.sealed_values:
            return profile
        return replace(profile, sealed_values=self.vault.reseal(profile.sealed_values.encode()).decode())


def opened_values(vault: Vault, profile: PortalProfile) -> dict[str, str]:
    """Return the settings of handlers' own by name.

    Raises:
        SecretUnreadable: none of the keys opens them.
    """
    if not profile.sealed_values:
        return {}
    values = orjson.loads(vault.open(profile.sealed_values.encode()))
    return {str(name): str(value) for name, value in values.items()}


def with_values(vault: Vault, profile: PortalProfile, values: Mapping[str, str]) -> PortalProfile:
    """Return a profile with these settings of handlers' own, sealed."""
    sealed = vault.seal(orjson.dumps(dict(values)).decode()).decode() if values else ""
    return replace(profile, sealed_values=sealed)


async def _read(connection: AsyncConnection, portal_id: int, *, for_update: bool = False) -> PortalProfile:
    query = select(_P.settings).where(_P.portal_id == portal_id)
    stored = await connection.scalar(query.with_for_update() if for_update else query)
    return (_parsed(portal_id, stored) if stored else None) or PortalProfile(portal_id)


def _parsed(portal_id: int, stored: str) -> PortalProfile | None:
    try:
        return PortalProfile.from_json(portal_id, stored)
    except UnreadableDelivery:
        return None
