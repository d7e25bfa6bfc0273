# -*- test-case-name: tests.store.test_migrations -*-
"""
Keys, and what their accounts have used.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """
    Make the tables.
    """
    op.create_table(
        "keys",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("shown", sa.String, nullable=False),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("models", sa.String),
        sa.Column("rpm", sa.BigInteger),
        sa.Column("tpm", sa.BigInteger),
        sa.Column("concurrent", sa.BigInteger),
        sa.Column("tokens_per_day", sa.BigInteger),
        sa.Column("tokens_per_month", sa.BigInteger),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("is_disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53)),
        sa.Column("replaced_until", sa.Float(53)),
    )
    op.create_index("keys_name", "keys", ["name"])
    op.create_table(
        "versions",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "used_tokens",
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
