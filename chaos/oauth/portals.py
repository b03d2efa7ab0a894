"""Portals that install the app by OAuth: their installs, edits by their users, and what must hold at the end."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

import aiohttp

from chaos.proxy import Proxy
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Subscription
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.demo.installing import InstallFailed, install_app
from spokes.simulator.demo.people import phone_as_typed
from spokes.simulator.errors import JsonObject
from spokes.simulator.portal import Portal

PORTALS: Final = (70200001, 70200002, 70200003)
REMOVING: Final = PORTALS[-1]  # the only one whose users remove the app; they install it again
LIFETIME_S: Final = 12.0  # of an access token, in real time
_SUBSCRIPTIONS: Final = (Subscription("contact.creation"), Subscription("contact.propertyChange", "phone"))
_EDIT_EVERY_S: Final = 0.4
_NEW_SHARE: Final = 0.3  # share of edits that create a contact
_INSTALL_TIMEOUT_S: Final = 15.0  # of one attempt
_GIVE_UP_S: Final = 90.0
_ID_DIGITS: Final = 13  # of a contact: the portal's eight, and a number; ids of the first portal are shorter


@dataclass(slots=True)
class OAuthPortals:
    """The portals of one run; `phones` are the phones in E.164 that their contacts must have at the end."""

    sim: Simulator
    rng: Random
    public_url: str
    front: Proxy
    phones: dict[int, dict[str, str]] = field(default_factory=lambda: {portal_id: {} for portal_id in PORTALS})
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    async def install(self, portal_id: int) -> None:
        """Install the app in a browser, as a customer who starts again whenever an install fails; give up at last."""
        self.sim.add_portal(portal_id, _SUBSCRIPTIONS)
        deadline = time.monotonic() + _GIVE_UP_S
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(_INSTALL_TIMEOUT_S):
                    return await install_app(f"http://127.0.0.1:{self.front.port}", self.public_url, portal_id)
            except (InstallFailed, aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(1.0)
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """Make edits in every portal until `stop` is set."""
        while not stop.is_set():
            for portal_id in PORTALS:
                self._edit(self.sim.portals[portal_id])
            await asyncio.sleep(_EDIT_EVERY_S)

    def _edit(self, portal: Portal) -> None:
        """Enter a phone; while the portal has removed the app, HubSpot sends no event, so the phone stays as it is."""
        portal_id, contacts = portal.config.portal_id, list(self._contacts(portal))
        typed, phone = phone_as_typed(self.rng, self.rng.randint(2_000_000, 9_999_999))
        if contacts and self.rng.random() > _NEW_SHARE:
            contact = self.rng.choice(contacts)
            portal.crm.update(contact, {"phone": typed}, USER)
        else:
            type_ = portal.crm.types.resolve("contacts")
            contact = portal.crm.create(type_, {"phone": typed}, USER, id_=f"{portal_id}{next(self.numbers):05d}")
        if portal_id in self.sim.installs.portals:
            self.phones[portal_id][contact.id] = phone
        else:
            self.phones[portal_id].pop(contact.id, None)

    def wrong_phones(self) -> Iterator[str]:
        """Yield the contacts whose phone is not the one that the handler must have written."""
        for portal_id in PORTALS:
            for contact in self._contacts(self.sim.portals[portal_id]):
                expected = self.phones[portal_id].get(contact.id)
                if expected is not None and contact.properties.get("phone") != expected:
                    yield contact.id

    def foreign_calls(self) -> Iterator[str]:
        """Yield the calls that had the token of another portal than that of their objects."""
        first = self.sim.portal.config.portal_id
        for call in self.sim.requests:
            if call.portal_id is not None and any(_portal_of(id_, first) != call.portal_id for id_ in call.object_ids):
                yield f"{call.method} {call.path} with the token of portal {call.portal_id}"

    @staticmethod
    def _contacts(portal: Portal) -> Iterable[CrmRecord]:
        return portal.crm.records(portal.crm.types.resolve("contacts"))


def wrongly_marked(portals: Iterable[JsonObject]) -> Iterator[str]:
    """Yield the portals that are not installed at the end, or were marked without having removed the app.

    Args:
        portals: as `spokes portals list --json` prints them.
    """
    by_id: Mapping[int, JsonObject] = {portal["portal_id"]: portal for portal in portals}
    for portal_id in PORTALS:
        portal = by_id.get(portal_id)
        if portal is None:
            yield f"portal {portal_id} is unknown"
        elif portal["state"] != "installed":
            yield f"portal {portal_id} is {portal['state']} ({portal['reason']})"
        elif portal["changed_at"] != portal["installed_at"] and portal_id != REMOVING:
            yield f"portal {portal_id} was marked"


def _portal_of(object_id: str, first: int) -> int:
    """Return the portal of an object: the ids of contacts of `PORTALS` begin with it."""
    portal_id = int(object_id[:8]) if len(object_id) == _ID_DIGITS and object_id.isdecimal() else first
    return portal_id if portal_id in PORTALS else first
