"""Credentials by portal: the one place that decides with whose credentials HubSpot is called.

A portal's events may run, and its data may be read or written, only with that portal's credentials. An access token
belongs to one portal (`TokenCredentials`). Portals that installed the app have tokens of their own (`spokes.portals`).
Both may be used together (`CombinedCredentials`).
"""

import asyncio
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol

from spokes.core.errors import CRMUnavailable, NoCredentials, NotAuthorized
from spokes.crm.transport.paths import Paths
from spokes.crm.transport.token_info import TokenInfo, token_info

if TYPE_CHECKING:
    from spokes.crm.transport.client import HubSpotClient  # its import loads hubspot-api-client


class Credentials(Protocol):
    """The credentials of a deployment."""

    @property
    def portals(self) -> Collection[int]:
        """The portals that this process has credentials for, as far as it knows."""

    async def client(self, portal_id: int) -> "HubSpotClient":
        """Return the client that calls HubSpot with the portal's own credentials.

        Raises:
            NoCredentials: this deployment has none for the portal.
            CRMError: HubSpot does not say to which portal a token belongs.
        """

    async def renew(self, portal_id: int, refused: "HubSpotClient") -> "HubSpotClient | None":
        """After a 401 for `refused`, return a client with a newer token of the portal; None if there is none.

        Raises:
            NoCredentials, CRMError: as `client`.
        """

    async def close(self) -> None:
        """Close all clients."""


class InstalledCredentials(Credentials, Protocol):
    """The credentials of portals that installed the app."""

    def fingerprint(self, portal_id: int) -> str:
        """Return the fingerprint of the access token in use for a portal, empty without one."""


class TokenCredentials:
    """One access token. HubSpot says which portal it belongs to; the token serves no other."""

    def __init__(
        self, client: "HubSpotClient", paths: Paths, *, portal_ids: Collection[int] = (), has_token: bool = True
    ) -> None:
        """Use the token of `client`, unless `portal_ids` excludes its portal; empty excludes none."""
        self._client = client
        self.has_token = has_token  # whether the client has one; without, no portal is served
        self._paths = paths
        self._portal_ids = frozenset(portal_ids)
        self._portal_id = 0  # unknown
        self._learning = asyncio.Lock()
        self.is_refused = False  # whether this process has stopped using the token because HubSpot refuses it

    @property
    def portals(self) -> Collection[int]:
        """The token's portal, unless the token is refused."""
        return () if self.is_refused else self.token_portals

    @property
    def token_portals(self) -> Collection[int]:
        """The token's portal, once it is known and if PORTAL_IDS does not exclude it."""
        is_excluded = bool(self._portal_ids) and self._portal_id not in self._portal_ids
        return () if is_excluded or not self._portal_id else (self._portal_id,)

    @property
    def is_portal_known(self) -> bool:
        """Whether HubSpot has named the token's portal, or there is no token."""
        return bool(self._portal_id) or not self.has_token

    async def client(self, portal_id: int) -> "HubSpotClient":
        """Return the client if the token is the portal's.

        Raises:
            NoCredentials: the token belongs to another portal, or PORTAL_IDS excludes the portal.
            NotAuthorized: HubSpot does not know the token, or refused it earlier.
            CRMUnavailable: HubSpot cannot answer now.
        """
        if not self.has_token:
            raise NoCredentials
        if not self._portal_id:
            await self._learn_once()
        if portal_id not in self.token_portals:
            raise NoCredentials
        if self.is_refused:
            raise NotAuthorized
        return self._client

    async def learn(self) -> TokenInfo | None:
        """Ask HubSpot for the token's portal and scopes; return None if HubSpot cannot answer now.

        Raises:
            NotAuthorized: HubSpot does not know the token.
        """
        if not self.has_token:
            return None
        info = await token_info(self._client, self._paths)
        if info is None or not info.hub_id:
            return None
        self._portal_id = info.hub_id
        return info

    async def renew(self, portal_id: int, refused: "HubSpotClient") -> "HubSpotClient | None":
        """Return None: only an operator can replace the token."""

    async def _learn_once(self) -> None:
        async with self._learning:
            if not self._portal_id and await self.learn() is None:
                raise CRMUnavailable

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()


class CombinedCredentials:
    """The token for its own portal, and the credentials of installed portals for theirs."""

    def __init__(self, token: TokenCredentials, installed: Credentials) -> None:
        """Prefer `token`, also for a portal that both serve."""
        self._token = token
        self._installed = installed
        self.portals: Collection[int] = _EitherCollection(token, installed)

    async def client(self, portal_id: int) -> "HubSpotClient":
        """Return the client that calls HubSpot with the portal's own credentials.

        Raises:
            NoCredentials: neither has them.
            CRMError: HubSpot does not say to which portal a token belongs, or cannot refresh it now.
        """
        return await self._of(portal_id).client(portal_id)

    async def renew(self, portal_id: int, refused: "HubSpotClient") -> "HubSpotClient | None":
        """After a 401 for `refused`, return a client with a newer token of the portal; None if there is none."""
        return await self._of(portal_id).renew(portal_id, refused)

    async def close(self) -> None:
        """Close both; the installed portals use the token's connections."""
        await self._installed.close()
        await self._token.close()

    def _of(self, portal_id: int) -> Credentials:
        return self._token if portal_id in self._token.token_portals else self._installed


class _EitherCollection(Collection[int]):
    """The portals of both credentials, as they are now."""

    def __init__(self, token: TokenCredentials, installed: Credentials) -> None:
        self._token = token
        self._installed = installed

    def __contains__(self, portal_id: object) -> bool:
        if portal_id in self._token.token_portals:
            return portal_id in self._token.portals
        return portal_id in self._installed.portals

    def __iter__(self) -> Iterator[int]:
        own = self._token.token_portals
        yield from self._token.portals
        yield from (portal_id for portal_id in self._installed.portals if portal_id not in own)

    def __len__(self) -> int:
        return sum(1 for _ in self)
