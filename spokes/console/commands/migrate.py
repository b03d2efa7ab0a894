"""`migrate`: create or upgrade the tables of the audit store; running it again changes nothing."""

import asyncio

from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.schema import Upgrade, upgrade
from spokes.console.output import JsonOption, print_json, progress
from spokes.core.settings import Settings


def migrate(as_json: JsonOption = False) -> None:
    """Create or upgrade the tables of the audit store (DATABASE_URL, or SQLite in DATA_DIR). Safe to repeat.

    Example: spokes migrate
    """
    with progress("Upgrading the tables"):
        result = asyncio.run(_migrate(Settings.from_env()))
    if as_json:
        print_json({"before": result.before, "after": result.after})
    else:
        print(_describe_upgrade(result))


async def _migrate(settings: Settings) -> Upgrade:
    engine = open_engine(settings.database_address)
    try:
        return await upgrade(engine)
    finally:
        await engine.dispose()


def _describe_upgrade(result: Upgrade) -> str:
    if result.before is None:
        return f"The audit store is new: its tables were created, revision {result.after}."
    if result.before == result.after:
        return f"The audit store is up to date, revision {result.after}."
    return f"The audit store was upgraded from revision {result.before} to {result.after}."
