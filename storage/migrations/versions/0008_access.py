"""Accounts, projects and keys; every data set belongs to a project, every job to who asked for it."""

import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_GROUPED = ("dataset", "saved_search", "receipt")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add tables and columns; what is stored lies in the project `default`, and came from the shell."""
    _create_accounts()
    project = op.create_table(
        "project",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("name", name=op.f("uq_project_name")),
    )
    op.bulk_insert(project, [{"id": uuid.uuid4(), "name": "default", "note": "", "created_at": datetime.now(UTC)}])
    _create_memberships()
    _create_keys()
    op.add_column("job", sa.Column("owner", sa.String(120), server_default="", nullable=False))
    for table in _GROUPED:
        op.add_column(table, sa.Column("project", sa.String(120), server_default="default", nullable=False))
        op.create_index(op.f(f"ix_{table}_project"), table, ["project"])


def _create_accounts() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("issuer", sa.String(length=400)),
        sa.Column("subject", sa.String(length=255)),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("disabled_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("name", name=op.f("uq_account_name")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_account_issuer_subject")),
    )


def _create_memberships() -> None:
    op.create_table(
        "membership",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.String(length=120), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'reviewer', 'admin')", name=op.f("ck_membership_role")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_membership_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["project"], ["project.name"], name=op.f("fk_membership_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("account_id", "project", name=op.f("uq_membership_account_id_project")),
    )
    op.create_index(op.f("ix_membership_project"), "membership", ["project"])


def _create_keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", _JSON, nullable=False),
        sa.Column("project", sa.String(length=120)),
        sa.Column("page_of", sa.Uuid()),
        sa.Column("is_page", sa.Boolean(), nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("revoked_at", _TIME),
        sa.Column("last_used_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_api_key_account_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project"], ["project.name"], name=op.f("fk_api_key_project"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_key_prefix")),
    )
    op.create_index(op.f("ix_api_key_account_id"), "api_key", ["account_id"])


def downgrade() -> None:
    """Drop them."""
    for table in _GROUPED:
        op.drop_index(op.f(f"ix_{table}_project"), table)
        op.drop_column(table, "project")
    op.drop_column("job", "owner")
    for table in ("api_key", "membership", "project", "account"):
        op.drop_table(table)
