"""Captions and retrieved stimuli of what was decoded."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add two columns, empty for what was decoded before."""
    op.add_column("reconstruction", sa.Column("caption", sa.Text(), nullable=False, server_default=""))
    op.add_column("reconstruction", sa.Column("retrieved", _JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    """Drop both columns."""
    op.drop_column("reconstruction", "retrieved")
    op.drop_column("reconstruction", "caption")
