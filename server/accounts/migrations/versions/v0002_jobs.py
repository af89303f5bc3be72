"""Jobs, requests that are accepted before their work is done; webhooks of keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table and the columns."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("key_id", sa.Integer, sa.ForeignKey("api_keys.id"), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("store", sa.String(64), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("body_sha256", sa.String(64)),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("lease_ms", sa.BigInteger),
        sa.Column("owner", sa.String(64)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("error_status", sa.Integer),
        sa.Column("result", sa.Text),
        sa.UniqueConstraint("account_id", "idempotency_key", name="uq_jobs_idempotency_key"),
    )
    op.create_index(op.f("ix_jobs_account_id"), "jobs", ["account_id"])
    op.create_index(op.f("ix_jobs_state"), "jobs", ["state"])
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("webhook_url", sa.String(2000)))
        table.add_column(sa.Column("webhook_secret", sa.String(100)))
