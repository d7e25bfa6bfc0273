# -*- test-case-name: tests.store.test_migrations -*-
"""
What several processes need to share parked turns.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """
    Let calls have owners, and processes messages.
    """
    op.add_column("calls", sa.Column("owner", sa.String, nullable=False, server_default=""))
    op.create_table(
        "messages",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("messages_expire", "messages", ["expires_at"])
