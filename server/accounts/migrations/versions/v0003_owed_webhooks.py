"""Webhooks that are owed outlive the server; requests under one key are told apart by values."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and name one after what it holds now."""
    with op.batch_alter_table("jobs") as table:
        table.alter_column("body_sha256", new_column_name="fingerprint")
        table.add_column(sa.Column("webhook_url", sa.String(2000)))
        table.add_column(sa.Column("webhook_due_ms", sa.BigInteger))
        table.add_column(sa.Column("webhook_tries", sa.Integer, nullable=False, server_default="0"))
    op.create_index(op.f("ix_jobs_webhook_due_ms"), "jobs", ["webhook_due_ms"])
