"""Holds and begun jobs belong to a server's lease, no longer to a time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NEVER_S = 2**62
_NOBODY = "before leases"


def upgrade() -> None:
    """Add the table; what servers of earlier versions left set aside belongs to nobody."""
    op.create_table(
        "leases",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("store", sa.String(64), nullable=False),
        sa.Column("beat_ms", sa.BigInteger, nullable=False),
    )
    op.create_index(op.f("ix_leases_store"), "leases", ["store"])
    with op.batch_alter_table("holds") as table:
        table.add_column(sa.Column("lease_id", sa.String(32)))
    holds = sa.table("holds", sa.column("lease_id"), sa.column("expires_s"))
    op.execute(holds.update().where(holds.c.expires_s < _NEVER_S).values(lease_id=_NOBODY))
    with op.batch_alter_table("holds") as table:
        table.drop_column("expires_s")
    op.create_index(op.f("ix_holds_lease_id"), "holds", ["lease_id"])
    with op.batch_alter_table("jobs") as table:
        table.drop_column("lease_ms")
