"""`migrate`: create the tables of the audit store."""

import pytest

from tests.support.command_line import spokes
from tests.support.deployment import KEY


@pytest.mark.usefixtures("real_migrations")
def test_migrate_reports_the_revision_and_can_be_repeated(database_url: str) -> None:
    output = [spokes({"AUDIT_KEY": KEY, "DATABASE_URL": database_url}, "migrate").stdout for _ in range(2)]
    assert output == [
        "The audit store is new: its tables were created, revision 0014.\n",
        "The audit store is up to date, revision 0014.\n",
    ]
