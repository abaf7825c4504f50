"""Run the migrations on the connection that `storage.database.upgrade` hands over."""

from typing import Any

from alembic import context

from voxelight.storage.schema import Base, is_ours


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
