"""What people do with jobs and results: reviews, corrections, saved searches, resumable uploads, deletions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from voxelight.storage.words import split_words

revision = "0003"
down_revision = "0002"

_FOUND_BY = (
    ("run", "job_id", "finished_at", "id"),
    ("run", "subject_id", "finished_at", "id"),
    ("run", "scan_id", "finished_at", "id"),
    ("subject", "label", "id"),
    ("scan", "name"),
    ("review", "verdict", "run_id"),
)
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add tables, and columns whose defaults fit what was stored before."""
    op.create_table(
        "receipt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=600), nullable=False),
        sa.Column("author", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("counts", _JSON, nullable=False),
        sa.Column("sha256s", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
    )
    op.create_table(
        "saved_search",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.String(length=120), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("query", _JSON, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_search")),
        sa.UniqueConstraint("slug", name=op.f("uq_saved_search_slug")),
    )
    op.create_table(
        "identity_link",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("keyed_hash", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_identity_link_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_link")),
        sa.UniqueConstraint(
            "dataset_id", "kind", "keyed_hash", name=op.f("uq_identity_link_dataset_id_kind_keyed_hash")
        ),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("session", sa.String(length=120), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("scans", _JSON, nullable=False),
        sa.Column("problems", _JSON, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('open', 'done', 'refused')", name=op.f("ck_upload_status")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_upload_dataset_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_upload_idempotency_key")),
    )
    op.create_index(op.f("ix_upload_batch"), "upload", ["batch"], unique=False)
    op.create_index(
        op.f("ix_upload_dataset_id_created_at_id"), "upload", ["dataset_id", "created_at", "id"], unique=False
    )
    op.create_table(
        "job_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_event_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_job_event_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_event")),
    )
    op.create_index(
        op.f("ix_job_event_job_id_created_at_id"), "job_event", ["job_id", "created_at", "id"], unique=False
    )
    op.create_table(
        "review",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("reviewer", sa.String(length=120), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("verdict IN ('accept', 'reject', 'unsure')", name=op.f("ck_review_verdict")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_review_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
        sa.UniqueConstraint("run_id", "reviewer", name=op.f("uq_review_run_id_reviewer")),
    )
    op.create_table(
        "correction",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.Column("base_id", sa.Uuid(), nullable=True),
        sa.Column("author", sa.String(length=120), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("volumes_ml", _JSON, nullable=False),
        sa.Column("changes", _JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact.id"], name=op.f("fk_correction_artifact_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["base_id"], ["artifact.id"], name=op.f("fk_correction_base_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_correction_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
    )
    op.create_index(op.f("ix_correction_run_id"), "correction", ["run_id"], unique=False)
    op.create_table(
        "action",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("params", _JSON, nullable=False),
        sa.Column("problem", _JSON, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_action_status")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_action_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action")),
        sa.UniqueConstraint("job_id", "kind", name=op.f("uq_action_job_id_kind")),
    )
    op.add_column("dataset", sa.Column("keeps_headers", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("job", sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("cloned_from", sa.Uuid(), nullable=True))
    op.add_column("job", sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("seconds", sa.Double(), nullable=True))
    for table in ("artifact", "metric"):
        op.drop_index(op.f(f"ix_{table}_job_id"), table)
        op.create_index(op.f(f"ix_{table}_job_id_run_id"), table, ["job_id", "run_id"], unique=False)
    op.create_index(
        op.f("ix_metric_name_value_run_id_label"), "metric", ["name", "value", "run_id", "label"], unique=False
    )
    op.add_column("scan", sa.Column("held", sa.Text(), server_default="", nullable=False))
    for table, *columns in _FOUND_BY:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
    _add_words()


def _add_words() -> None:
    """Make the words of what was decoded so far findable."""
    text = sa.String(length=80).with_variant(sa.String(length=80, collation="C"), "postgresql")
    words = op.create_table(
        "result_word",
        sa.Column("word", text, nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_result_word_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("word", "run_id", name=op.f("pk_result_word")),
    )
    op.create_index(op.f("ix_result_word_run_id"), "result_word", ["run_id"], unique=False)
    decoded = sa.table("reconstruction", sa.column("run_id", sa.Uuid()), sa.column("stimulus_id"), sa.column("caption"))
    connection = op.get_bind()
    found = connection.execute(sa.select(decoded)).all()
    rows = {(word, run_id) for run_id, *texts in found for word in split_words(*texts)}
    if rows:
        connection.execute(words.insert(), [{"word": word, "run_id": run_id} for word, run_id in sorted(rows)])


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_result_word_run_id"), "result_word")
    op.drop_table("result_word")
    for table, *columns in _FOUND_BY:
        op.drop_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table)
    op.drop_column("scan", "held")
    op.drop_index(op.f("ix_metric_name_value_run_id_label"), "metric")
    for table in ("artifact", "metric"):
        op.drop_index(op.f(f"ix_{table}_job_id_run_id"), table)
        op.create_index(op.f(f"ix_{table}_job_id"), table, ["job_id"], unique=False)
    op.drop_column("run", "seconds")
    op.drop_column("job", "queued_at")
    op.drop_column("job", "cloned_from")
    op.drop_column("job", "priority")
    op.drop_column("dataset", "keeps_headers")
    op.drop_table("action")
    op.drop_index(op.f("ix_correction_run_id"), "correction")
    op.drop_table("correction")
    op.drop_table("review")
    op.drop_index(op.f("ix_job_event_job_id_created_at_id"), "job_event")
    op.drop_table("job_event")
    op.drop_table("upload")
    op.drop_table("identity_link")
    op.drop_table("saved_search")
    op.drop_table("receipt")
