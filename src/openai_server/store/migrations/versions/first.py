# -*- test-case-name: tests.store.test_migrations -*-
"""
The first schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """
    Make all tables.
    """
    _makeRecords()
    _makeState()
    op.create_table(
        "leases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("leases_expire", "leases", ["expires_at"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def _makeRecords() -> None:
    place = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "records",
        sa.Column("place", place, primary_key=True, autoincrement=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("previous", sa.String),
        sa.Column("used", sa.Float(53), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("account", "id", name="records_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("records_used", "records", ["used"])
    op.create_index("records_place", "records", ["account", "place"])
    record = sa.ForeignKey("records.place", name="items_record", ondelete="CASCADE")
    op.create_table(
        "items",
        sa.Column("place", place, primary_key=True, autoincrement=True),
        sa.Column("record", sa.BigInteger, record, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("record", "id", name="items_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("items_place", "items", ["record", "place"])


def _makeState() -> None:
    op.create_table(
        "sessions",
        sa.Column("sid", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("context", sa.LargeBinary, nullable=False),
        sa.Column("seen", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.LargeBinary),
        sa.Column("user", sa.LargeBinary),
        sa.Column("system_prompt", sa.String),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("details", sa.LargeBinary, nullable=False),
        sa.Column("used_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("sessions_seen", "sessions", ["account", "context", "seen"])
    op.create_index("sessions_name", "sessions", ["name"])
    op.create_index("sessions_user", "sessions", ["user"])
    op.create_index("sessions_expire", "sessions", ["expires_at"])
    op.create_table(
        "hints",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("shows_history", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("hints_expire", "hints", ["expires_at"])
    op.create_table(
        "calls",
        sa.Column("public_id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("sid", sa.String, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("wire_name", sa.String, nullable=False),
        sa.Column("client_name", sa.String, nullable=False),
        sa.Column("arguments", sa.LargeBinary, nullable=False),
        sa.Column("asked", sa.LargeBinary),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("incarnation", sa.String, nullable=False),
        sa.Column("details", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("deadline", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("calls_sid", "calls", ["sid"])
    op.create_index("calls_asked", "calls", ["account", "asked"])
    op.create_index("calls_expire", "calls", ["expires_at"])
    op.create_table(
        "answers",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("answers_expire", "answers", ["expires_at"])
