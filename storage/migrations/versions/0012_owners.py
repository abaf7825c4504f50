"""Who brought a scan, and who brings an upload."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add two columns; what is there came from the shell."""
    for table in ("scan", "upload"):
        op.add_column(table, sa.Column("owner", sa.String(120), server_default="", nullable=False))


def downgrade() -> None:
    """Drop them."""
    for table in ("upload", "scan"):
        op.drop_column(table, "owner")
