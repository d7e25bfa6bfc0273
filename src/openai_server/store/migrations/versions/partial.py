# -*- test-case-name: tests.store.test_migrations -*-
"""
Indexes that are less work: no row is in one under a field that it does not
have, and what there is of records is counted without reading them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """
    Make them anew.
    """
    for table, *columns in (
        ("sessions", "name"),
        ("sessions", "user"),
        ("calls", "account", "asked"),
    ):
        name = f"{table}_{columns[-1]}"
        isThere = sa.column(columns[-1]).is_not(None)
        op.drop_index(name, table)
        op.create_index(name, table, columns, sqlite_where=isThere, postgresql_where=isThere)
    op.drop_index("records_used", "records")
    op.create_index("records_used", "records", ["used", "size"])
