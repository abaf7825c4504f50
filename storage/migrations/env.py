"""Run the migrations on the connection that `storage.database.upgrade` hands over."""

from typing import Any

from alembic import context

from voxelight.storage.schema import Base


def is_ours(_thing: object, name: str | None, kind: str, reflected: bool, _compare_to: object) -> bool:
    """Leave out the tables of the job engine, which share the file on SQLite."""
    return not (kind == "table" and reflected and name not in Base.metadata.tables)


def run(connection: Any) -> None:
    """Apply or compare, in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        include_object=is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
