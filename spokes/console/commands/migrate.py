"""`migrate`: bring the audit store to this code's tables. Rule: running it twice changes nothing."""

import asyncio

from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.schema import Upgrade, upgrade
from spokes.console.output import JsonOption, print_json, progress
from spokes.core.settings import Settings


def migrate(as_json: JsonOption = False) -> None:
    """Create or upgrade the tables of the audit store (DATABASE_URL, or SQLite in DATA_DIR).

    Example: spokes migrate
    """
    with progress("Upgrading the tables"):
        done = asyncio.run(_migrate(Settings.from_env()))
    if as_json:
        print_json({"before": done.before, "after": done.after})
    else:
        print(_describe_upgrade(done))


async def _migrate(settings: Settings) -> Upgrade:
    engine = open_engine(settings.database_address)
    try:
        return await upgrade(engine)
    finally:
        await engine.dispose()


def _describe_upgrade(done: Upgrade) -> str:
    if done.before is None:
        return f"The audit store is new: its tables were created, revision {done.after}."
    if done.before == done.after:
        return f"The audit store is up to date, revision {done.after}."
    return f"The audit store was upgraded from revision {done.before} to {done.after}."
