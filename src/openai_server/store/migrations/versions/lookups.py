# -*- test-case-name: tests.store.test_migrations -*-
"""
One index less for SQLite: see L{openai_server.store.schema.SHARED_LOOKUP}.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """
    Drop the index there.
    """
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index("sessions_seen", "sessions")
