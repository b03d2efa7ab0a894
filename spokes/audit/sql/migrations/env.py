"""What alembic runs for every upgrade. Rule: the connection, and the transaction on it, are the caller's."""

from alembic import context

from spokes.audit.sql.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # SQLite can, inside the transaction that the caller began
)
with context.begin_transaction():
    context.run_migrations()
