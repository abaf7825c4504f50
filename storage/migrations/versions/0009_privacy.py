"""Data sets that remove faces; what was searched for after a deletion."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add two columns."""
    op.add_column("dataset", sa.Column("removes_faces", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("receipt", sa.Column("proof", _JSON, server_default="[]", nullable=False))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("receipt", "proof")
    op.drop_column("dataset", "removes_faces")
