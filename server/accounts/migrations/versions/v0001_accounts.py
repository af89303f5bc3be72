"""Accounts, keys, holds and the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MAX_UNITS = 9_000_000_000_000_000_000


def upgrade() -> None:
    """Create the four tables."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("unlimited", sa.Boolean, nullable=False),
        sa.Column("balance_units", sa.BigInteger, nullable=False),
        sa.Column("held_units", sa.BigInteger, nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.CheckConstraint("held_units >= 0", name="held"),
        sa.CheckConstraint("unlimited OR held_units <= balance_units", name="covered"),
        sa.CheckConstraint(f"balance_units BETWEEN 0 AND {_MAX_UNITS}", name="balance"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("expires_s", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
    )
    for table in ("api_keys", "holds", "ledger"):
        op.create_index(op.f(f"ix_{table}_account_id"), table, ["account_id"])
    op.create_index(op.f("ix_api_keys_prefix"), "api_keys", ["prefix"])
