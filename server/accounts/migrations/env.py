"""Run by alembic: migrates the connection that `server.accounts.database` passes in."""

from alembic import context

from server.accounts.database import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite cannot alter a column: alembic then copies the table.
    render_as_batch=True,
)
context.run_migrations()
