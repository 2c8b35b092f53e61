"""Alembic's environment and the revisions; run by ``app.storage.migrate`` or by the ``alembic`` command."""
