# -*- test-case-name: tests.store.test_migrations -*-
"""
The steps from one schema to the next, and how they are taken.

Each module in C{versions} is one, as Alembic has them. A step that was
released is never changed: the next one is added.
"""

from __future__ import annotations

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from openai_server.store.interfaces import StoreError


def checkSchema(connection: Connection) -> None:
    """
    @raise StoreError: the schema is not the one that this server makes.
    """
    current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory(str(Path(__file__).parent)).get_current_head()
    if current != newest:
        raise StoreError(f"its schema is {current}, and {newest} is wanted: start this server with it once")


def isEmpty(connection: Connection) -> bool:
    """
    Whether no step was taken yet.
    """
    return MigrationContext.configure(connection).get_current_revision() is None


def migrate(connection: Connection) -> None:
    """
    Take all steps that are still to be taken, within the transaction that was
    begun.

    @raise StoreError: the schema is one of a newer version of this server.
    """
    script = ScriptDirectory(str(Path(__file__).parent))
    context = MigrationContext.configure(connection, opts={"transactional_ddl": True})
    current, newest = context.get_current_revision(), script.get_current_head()
    steps = list(script.walk_revisions())
    known = [step.revision for step in steps]
    if current is not None and current not in known:
        raise StoreError(
            f"its schema is {current}, of a newer openai-server; this one knows them up to {newest}"
        )
    # The newest comes first.
    missing = steps if current is None else steps[: known.index(current)]
    with Operations.context(context):
        for step in reversed(missing):
            step.module.upgrade()
            context.stamp(script, step.revision)
