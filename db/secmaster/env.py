"""Alembic's entry for the securities master. `mbats.database.migrate` passes the connection, its locks and timeouts."""

from alembic import context

from mbats.secmaster.tables import metadata

if "connection" not in context.config.attributes:
    raise SystemExit("Migrations are applied by `mbats up`, which locks out others and sets timeouts first.")

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
