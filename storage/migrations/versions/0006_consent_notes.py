"""What a consent says, in words."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add a column."""
    op.add_column("dataset", sa.Column("consent_note", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("dataset", "consent_note")
