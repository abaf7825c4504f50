"""Embeddings in named spaces; indexes by which what refers to a row is found and deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# A deletion follows every reference; without these it would read whole tables for each row.
_REFERENCES = (
    ("scan", "blob_sha256"),
    ("scan", "thumbnail_sha256"),
    ("job", "dataset_id"),
    ("artifact", "blob_sha256"),
    ("segmentation", "scan_id"),
    ("segmentation", "artifact_id"),
    ("reconstruction", "subject_id"),
    ("reconstruction", "artifact_id"),
    ("job_event", "run_id"),
    ("correction", "artifact_id"),
    ("correction", "base_id"),
)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add two tables, and the indexes."""
    op.create_table(
        "embedding_space",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("removals", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('picture', 'text', 'case')", name=op.f("ck_embedding_space_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding_space")),
        sa.UniqueConstraint("name", name=op.f("uq_embedding_space_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "embedding",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("space_id", _NUMBER, nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("item", sa.String(length=600), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("artifact_id", sa.Uuid(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["space_id"], ["embedding_space.id"], name=op.f("fk_embedding_space_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["scan_id"], ["scan.id"], name=op.f("fk_embedding_scan_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_embedding_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact.id"], name=op.f("fk_embedding_artifact_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_embedding")),
        sa.UniqueConstraint("space_id", "owner", "role", "item", name=op.f("uq_embedding_space_id_owner_role_item")),
        sqlite_autoincrement=True,
    )
    for columns in (("space_id", "id"), ("scan_id",), ("run_id",), ("artifact_id",)):
        op.create_index(op.f(f"ix_embedding_{'_'.join(columns)}"), "embedding", list(columns), unique=False)
    for table, column in _REFERENCES:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


def downgrade() -> None:
    """Drop them."""
    for table, column in _REFERENCES:
        op.drop_index(op.f(f"ix_{table}_{column}"), table)
    op.drop_table("embedding")
    op.drop_table("embedding_space")
