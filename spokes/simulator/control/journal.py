"""Control endpoints for the webhooks journal: its pages, hand-made entries, and its behaviour.

Each function serves one path of `spokes.simulator.control`.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from aiohttp import web

from spokes.simulator.config import JournalConfig
from spokes.simulator.control.parameters import check_fields

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator


async def journal(sim: "Simulator", _request: web.Request) -> object:
    """The pages of the journal: offsets and numbers of entries, and how often files were read."""
    pages = [{"offset": page.offset, "entries": len(page.entries)} for page in sim.journal.store.pages()]
    counts = {"file_reads": sim.journal.file_reads, "peak_reads": sim.journal.peak_reads}
    return {"pages": pages, **counts, "journal": asdict(sim.journal.store.config)}


async def add_entries(sim: "Simulator", request: web.Request) -> object:
    """Add hand-made entries (a JSON array) and publish them as a page."""
    for entry in await request.json():
        sim.journal.store.add(entry)
    sim.journal.store.publish()
    return {"pages": len(sim.journal.store.pages())}


async def publish(sim: "Simulator", _request: web.Request) -> object:
    """Publish the collected entries as a page now."""
    sim.journal.store.publish()
    return {"pages": len(sim.journal.store.pages())}


async def forget(sim: "Simulator", request: web.Request) -> object:
    """Remove the pages up to ?offset=, by default all, as if they had aged out; with ?tokens=1 expire the tokens."""
    expired = sim.journal.expire_tokens() if request.query.get("tokens") == "1" else 0
    removed = 0 if expired else sim.journal.store.forget(request.query.get("offset"))
    return {"removed": removed, "expired_tokens": expired}


async def set_journal(sim: "Simulator", request: web.Request) -> object:
    """Set any fields of spokes.simulator.config.JournalConfig."""
    store = sim.journal.store
    store.config = replace(store.config, **check_fields(JournalConfig, await request.json()))
    return asdict(store.config)
