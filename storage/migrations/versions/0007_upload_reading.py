"""How an upload is read that can be read in several ways."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add two columns."""
    op.add_column("upload", sa.Column("prefer", sa.String(8)))
    op.add_column("upload", sa.Column("volume", sa.Integer()))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("upload", "volume")
    op.drop_column("upload", "prefer")
