"""Alembic's environment for every upgrade, on the caller's connection and in its transaction."""

from alembic import context

from spokes.audit.sql.tables import METADATA
from spokes.audit.sql.versions import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # SQLite supports it inside the transaction that the caller began
)
with context.begin_transaction():
    context.run_migrations()
