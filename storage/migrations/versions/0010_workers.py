"""Workers, and what waits for them: jobs that wait or run go on where they are."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_ACTIVE = ("queued", "running")


def upgrade() -> None:
    """Add tables, and fill the queue from what is stored."""
    op.create_table(
        "worker",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("place", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("queues", _JSON, nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("started_s", sa.Double(), nullable=False),
        sa.Column("seen_s", sa.Double(), nullable=False),
        sa.Column("memory_gib", sa.Double()),
        sa.Column("card_gib", sa.Double()),
        sa.Column("card", sa.String(length=255), server_default="", nullable=False),
        sa.Column("warm", _JSON, nullable=False),
        sa.Column("idle", _JSON, nullable=False),
        sa.CheckConstraint("state IN ('running', 'draining', 'stopped', 'dead')", name=op.f("ck_worker_state")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
    )
    op.create_table(
        "turn",
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "owner", name=op.f("pk_turn")),
    )
    _create_queue()
    _fill_queue()


def _create_queue() -> None:
    op.create_table(
        "queue_entry",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("workflow_id", sa.String(length=80), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("action_id", sa.Uuid()),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=120), server_default="", nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("recipe", sa.String(length=120), server_default="", nullable=False),
        sa.Column("alike", sa.String(length=64), server_default="", nullable=False),
        sa.Column("need_gib", sa.Double(), server_default="0", nullable=False),
        sa.Column("part", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.String(length=255), server_default="", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ticket", sa.String(length=32), server_default="", nullable=False),
        sa.Column("queued_s", sa.Double(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_queue_entry_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_queue_entry")),
        sa.UniqueConstraint("workflow_id", name=op.f("uq_queue_entry_workflow_id")),
    )
    place = ["worker", "queue", "owner", "rank", "number"]
    op.create_index(op.f("ix_queue_entry_worker_queue_owner_rank_number"), "queue_entry", place)
    op.create_index(op.f("ix_queue_entry_job_id"), "queue_entry", ["job_id"])


def _fill_queue() -> None:
    """Enter what waits or runs; its first part is the workflow that the engine has of it already."""
    tables = sa.MetaData()
    connection = op.get_bind()
    job, action = (sa.Table(name, tables, autoload_with=connection) for name in ("job", "action"))
    since = sa.func.coalesce(job.c.queued_at, job.c.created_at)
    seconds = sa.extract("epoch", since)
    columns = (job.c.id, job.c.queue, job.c.owner, -job.c.priority, job.c.recipe, seconds)
    into = ("job_id", "queue", "owner", "rank", "recipe", "queued_s", "part", "action_id", "workflow_id")
    jobs = sa.select(*columns, sa.literal(1), sa.null(), _name(connection, job)).where(job.c.status.in_(_ACTIVE))
    asked = sa.select(*columns, sa.literal(1), action.c.id, _name(connection, action)).join(
        action, action.c.job_id == job.c.id
    )
    entry = sa.Table("queue_entry", tables, autoload_with=connection)
    connection.execute(entry.insert().from_select(into, jobs.order_by(since)))
    connection.execute(entry.insert().from_select(into, asked.where(action.c.status.in_(_ACTIVE)).order_by(since)))
    turn = sa.Table("turn", tables, autoload_with=connection)
    owners = sa.select(entry.c.queue, entry.c.owner, sa.literal(0)).distinct()
    connection.execute(turn.insert().from_select(("queue", "owner", "number"), owners))


def _name(connection: sa.Connection, table: sa.Table) -> sa.ColumnElement[str]:
    """Return the name of a row's workflow, in which an id has its dashes; SQLite stores it without."""
    identity: sa.ColumnElement[str] = sa.cast(table.c.id, sa.String)
    if connection.dialect.name == "sqlite":
        part = sa.func.substr
        ends = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        pieces = [part(identity, start, length) for start, length in ends]
        identity = pieces[0].concat("-").concat(pieces[1]).concat("-").concat(pieces[2])
        identity = identity.concat("-").concat(pieces[3]).concat("-").concat(pieces[4])
    return identity.concat(".").concat(sa.cast(table.c.attempt, sa.String))


def downgrade() -> None:
    """Drop them."""
    for name in ("queue_entry", "turn", "worker"):
        op.drop_table(name)
