"""The portals that installed the app, in SQL: losing Redis loses no install. Tokens are sealed in every row.

Every method raises AuditUnavailable if the store does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import RowMapping, case, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import INSTALLED_PORTALS
from spokes.core.clock import now_ms
from spokes.core.errors import SecretUnreadable
from spokes.core.vault import Vault
from spokes.portals.tokens import Tokens, tokens_from_json, tokens_to_json

ERASED: Final = "erased"  # the reason of an uninstalled portal of which nothing is held any more
# The reason of a portal whose refresh token is refused after a request for new tokens whose answer was lost.
REFRESH_INTERRUPTED: Final = "refresh_interrupted"
_P: Final = INSTALLED_PORTALS.c
_SHOWN: Final = (
    _P.portal_id, _P.state, _P.scopes, _P.installed_at, _P.token_expires_at, _P.name, _P.generation, _P.reason,
    _P.changed_at,
)  # fmt: skip


@unique
class PortalState(StrEnum):
    """What may be done for a portal. Only of an installed portal events run."""

    INSTALLED = "installed"
    NEEDS_REINSTALL = "needs_reinstall"  # HubSpot refuses its refresh token for good
    PAUSED = "paused"
    UNINSTALLED = "uninstalled"


@dataclass(frozen=True, slots=True)
class InstalledPortal:
    """One portal, without its tokens. Times are epoch ms; `changed_at` is the last change of `state`."""

    portal_id: int
    state: PortalState
    scopes: tuple[str, ...]
    installed_at: int
    token_expires_at: int
    name: str
    generation: int
    reason: str = ""
    changed_at: int = 0

    @property
    def is_removed_by_refusal(self) -> bool:
        """Whether a refused refresh token says that the portal removed the app; not if we have lost its tokens."""
        return self.state is PortalState.NEEDS_REINSTALL and self.reason != REFRESH_INTERRUPTED

    def uninstalled_at(self, at: int) -> int:
        """Return the time of the portal's `portal.uninstalled` if its app was removed at `at` (epoch ms).

        A refused refresh token was an uninstall already: its event and that of a later uninstall are one.
        """
        return self.changed_at if self.is_removed_by_refusal else at


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """A portal and its tokens of one moment; None if they are destroyed."""

    portal: InstalledPortal
    tokens: Tokens | None


@dataclass(frozen=True, slots=True)
class PortalStore:
    """The installed portals of a deployment; the caller closes `engine`."""

    engine: AsyncEngine
    vault: Vault = field(repr=False)

    async def save_install(
        self, portal_id: int, tokens: Tokens, scopes: Sequence[str], *, name: str = ""
    ) -> InstalledPortal:
        """Store a new install, or one that replaces an earlier one; return the portal, which is installed now."""
        at = now_ms()
        row: dict[str, Any] = {
            "state": PortalState.INSTALLED.value,
            "reason": "",
            "scopes": " ".join(scopes),
            "installed_at": at,
            "changed_at": at,
            "tokens": _seal(self.vault, tokens),
            "token_expires_at": tokens.expires_at,
        }
        async with write_connection(self.engine) as connection:
            insert = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
            change = row | {"generation": _P.generation + 1} | ({"name": name} if name else {})
            await connection.execute(
                insert(INSTALLED_PORTALS)
                .values(portal_id=portal_id, generation=1, name=name, **row)
                .on_conflict_do_update(index_elements=[_P.portal_id], set_=change)
            )
            return _portal(await _read_row(connection, portal_id))

    async def get(self, portal_id: int) -> InstalledPortal | None:
        """Return a portal, None if it never installed the app."""
        async with read_connection(self.engine) as connection:
            row = (await connection.execute(select(*_SHOWN).where(_P.portal_id == portal_id))).mappings().first()
        return None if row is None else _portal(row)

    async def list(self, *, after: int = 0, limit: int = 1000) -> list[InstalledPortal]:
        """Return the portals with an id above `after`, by id."""
        query = select(*_SHOWN).where(_P.portal_id > after).order_by(_P.portal_id).limit(limit)
        async with read_connection(self.engine) as connection:
            return [_portal(row) for row in (await connection.execute(query)).mappings()]

    async def changed_since(self, since_ms: int) -> dict[int, PortalState]:
        """Return the state of each portal whose state changed at `since_ms` or later; 0 returns all portals."""
        query = select(_P.portal_id, _P.state).where(_P.changed_at >= since_ms)
        async with read_connection(self.engine) as connection:
            return {row.portal_id: PortalState(row.state) for row in await connection.execute(query)}

    async def in_state_since(self, state: PortalState, until_ms: int) -> Sequence[InstalledPortal]:
        """Return the portals that have been in a state since `until_ms` or earlier, by id."""
        query = select(*_SHOWN).where(_P.state == state.value, _P.changed_at <= until_ms).order_by(_P.portal_id)
        async with read_connection(self.engine) as connection:
            return [_portal(row) for row in (await connection.execute(query)).mappings()]

    async def idle_since(self, until_ms: int, *, limit: int) -> Sequence[int]:
        """Return some of the portals whose access token expired before `until_ms`, which are installed, at random."""
        states = (PortalState.INSTALLED.value, PortalState.PAUSED.value)
        is_idle = (_P.token_expires_at < until_ms) & _P.tokens.is_not(None) & _P.state.in_(states)
        query = select(_P.portal_id).where(is_idle).order_by(func.random()).limit(limit)
        async with read_connection(self.engine) as connection:
            return [row.portal_id for row in await connection.execute(query)]

    async def tokens(self, portal_id: int) -> Tokens | None:
        """Return a portal's tokens, None if it has none.

        Raises:
            SecretUnreadable: none of our keys opens them.
        """
        stored = await self.read(portal_id)
        return None if stored is None else stored.tokens

    async def read(self, portal_id: int) -> StoredTokens | None:
        """Return a portal and its tokens, None if it never installed the app.

        Raises:
            SecretUnreadable: none of our keys opens the tokens.
        """
        async with read_connection(self.engine) as connection:
            query = select(*_SHOWN, _P.tokens).where(_P.portal_id == portal_id)
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            return None
        return StoredTokens(_portal(row), None if row["tokens"] is None else _open(self.vault, row["tokens"]))

    async def replace_tokens(self, portal_id: int, expected_generation: int, tokens: Tokens) -> bool:
        """Replace the tokens of one generation; return False, and change nothing, if they are of another by now.

        A portal that needs a reinstall is installed again by it: HubSpot has just accepted its refresh token.
        """
        needs_reinstall = _P.state == PortalState.NEEDS_REINSTALL.value
        change = (
            update(INSTALLED_PORTALS)
            .where(
                _P.portal_id == portal_id,
                _P.generation == expected_generation,
                _P.tokens.is_not(None),
                _P.state != PortalState.UNINSTALLED.value,
            )
            .values(
                tokens=_seal(self.vault, tokens),
                token_expires_at=tokens.expires_at,
                generation=expected_generation + 1,
                state=case((needs_reinstall, PortalState.INSTALLED.value), else_=_P.state),
                reason=case((needs_reinstall, ""), else_=_P.reason),
                changed_at=case((needs_reinstall, now_ms()), else_=_P.changed_at),
            )
        )
        async with write_connection(self.engine) as connection:
            return bool((await connection.execute(change)).rowcount)

    async def mark(self, portal_id: int, state: PortalState, reason: str, *, generation: int | None = None) -> bool:
        """Set a portal's state; return whether it changed.

        Args:
            reason: a constant, for operators.
            generation: change nothing if the tokens are of another generation by now.
        """
        change = update(INSTALLED_PORTALS).where(_P.portal_id == portal_id, _P.state != state.value)
        if generation is not None:
            change = change.where(_P.generation == generation, _P.state != PortalState.UNINSTALLED.value)
        async with write_connection(self.engine) as connection:
            result = await connection.execute(change.values(state=state.value, reason=reason, changed_at=now_ms()))
        return bool(result.rowcount)

    async def rename(self, portal_id: int, name: str) -> bool:
        """Set the name that operators see; return whether there is such a portal."""
        change = update(INSTALLED_PORTALS).where(_P.portal_id == portal_id).values(name=name)
        async with write_connection(self.engine) as connection:
            return bool((await connection.execute(change)).rowcount)

    async def mark_erased(self, portal_id: int) -> bool:
        """Note that nothing is held on an uninstalled portal; return False if it is installed again."""
        change = update(INSTALLED_PORTALS).where(
            _P.portal_id == portal_id, _P.state == PortalState.UNINSTALLED.value, _P.tokens.is_(None)
        )
        async with write_connection(self.engine) as connection:
            return bool((await connection.execute(change.values(reason=ERASED, name="", scopes=""))).rowcount)

    async def destroy_tokens(self, portal_id: int) -> None:
        """Delete the tokens of an uninstalled portal. A refresh in flight stores none afterwards."""
        change = update(INSTALLED_PORTALS).where(_P.portal_id == portal_id, _P.state == PortalState.UNINSTALLED.value)
        async with write_connection(self.engine) as connection:
            await connection.execute(
                change.values(tokens=None, token_expires_at=0, generation=INSTALLED_PORTALS.c.generation + 1)
            )

    async def sealed(self) -> Sequence[tuple[int, bytes]]:
        """Return the sealed tokens by portal."""
        rows: Sequence[tuple[int, bytes]] = ()
        after = 0
        while page := await self._sealed_rows(after):
            after = page[-1][0]
            rows = (*rows, *((portal_id, sealed.encode()) for portal_id, sealed in page))
        return rows

    async def reseal(self) -> tuple[int, Sequence[int]]:
        """Reseal the tokens sealed by an older key with the newest one.

        Return how many were resealed, and the portals whose tokens none of our keys opens.
        """
        count, after = 0, 0
        unreadable: Sequence[int] = ()
        while rows := await self._sealed_rows(after):
            for portal_id, sealed in rows:
                after = portal_id
                if self.vault.uses_newest_key(sealed.encode()):
                    continue
                try:
                    resealed = self.vault.reseal(sealed.encode()).decode()
                except SecretUnreadable:
                    unreadable = (*unreadable, portal_id)
                    continue
                same = (_P.portal_id == portal_id) & (_P.tokens == sealed)
                async with write_connection(self.engine) as connection:
                    result = await connection.execute(update(INSTALLED_PORTALS).where(same).values(tokens=resealed))
                count += result.rowcount
        return count, unreadable

    async def _sealed_rows(self, after: int, limit: int = 500) -> Sequence[tuple[int, str]]:
        query = select(_P.portal_id, _P.tokens).where(_P.portal_id > after, _P.tokens.is_not(None))
        async with read_connection(self.engine) as connection:
            rows = await connection.execute(query.order_by(_P.portal_id).limit(limit))
            return [(row.portal_id, row.tokens) for row in rows]


async def _read_row(connection: AsyncConnection, portal_id: int) -> RowMapping:
    return (await connection.execute(select(*_SHOWN).where(_P.portal_id == portal_id))).mappings().one()


def _portal(row: RowMapping) -> InstalledPortal:
    return InstalledPortal(
        portal_id=row["portal_id"],
        state=PortalState(row["state"]),
        scopes=tuple(row["scopes"].split()),
        installed_at=row["installed_at"],
        token_expires_at=row["token_expires_at"],
        name=row["name"],
        generation=row["generation"],
        reason=row["reason"],
        changed_at=row["changed_at"],
    )


def _seal(vault: Vault, tokens: Tokens) -> str:
    return vault.seal(tokens_to_json(tokens)).decode()


def _open(vault: Vault, sealed: str) -> Tokens:
    return tokens_from_json(vault.open(sealed.encode()))
