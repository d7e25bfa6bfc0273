"""
Tests for L{openai_server.store.migrations}.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from openai_server.store import migrations
from openai_server.store.location import Location
from openai_server.store.migrations import migrate
from openai_server.store.migrations.versions import first
from openai_server.store.schema import SHARED_LOOKUP, metadata
from tests.store.support import PostgreSQL, SQLiteFile


class MigrationContract:
    """
    The steps lead to the tables that are used.

    @cvar lacks: what the newest schema has and this database does not need.
    """

    lacks: Sequence[tuple[str, str]] = ()

    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.store.stopService())
        self.where = self.newURL()
        self.engine: Engine = Location(self.where).engine()
        self.addCleanup(self.engine.dispose)

    def tables(self, connection: Connection) -> set[str]:
        """
        The names of all tables.
        """
        return set(inspect(connection).get_table_names())

    def test_steps(self) -> None:
        """
        All of them together make what the newest schema says, and are taken
        once.
        """
        location = Location(self.where)
        with location.alone(), location.migrating(self.engine) as connection:
            migrate(connection)
            migrate(connection)
        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection)
            found = compare_metadata(context, metadata)
            self.assertEqual([(what, index.name) for what, index in found], list(self.lacks))
            self.assertEqual(self.tables(connection), {*metadata.tables, "alembic_version"})
            # The comparison does not look at what leaves rows out.
            partial = {
                each["name"]
                for table in metadata.tables
                for each in inspect(connection).get_indexes(table)
                if f"{connection.dialect.name}_where" in each["dialect_options"]
            }
            self.assertEqual(partial, {"sessions_name", "sessions_user", "calls_asked"})

    def test_callsOfBefore(self) -> None:
        """
        Those that were parked before processes had names are nobody's.
        """
        location = Location(self.where)
        with location.alone(), location.migrating(self.engine) as connection:
            context = MigrationContext.configure(connection, opts={"transactional_ddl": True})
            with Operations.context(context):
                first.upgrade()
            script = ScriptDirectory(str(Path(migrations.__file__).parent))
            context.stamp(script, first.revision)
            columns = "public_id, account, sid, call_id, wire_name, client_name, arguments"
            more = "is_open, incarnation, details, created_at, deadline, expires_at"
            values = "'c', 'a', 's', 'c', 'w', 'c', '', true, '', '', 0, 0, 1"
            connection.execute(text(f"INSERT INTO calls ({columns}, {more}) VALUES ({values})"))
            migrate(connection)
        with self.engine.connect() as connection:
            self.assertEqual(connection.scalars(text("SELECT owner FROM calls")).all(), [""])

    def test_failed(self) -> None:
        """
        A step that fails leaves nothing behind.
        """
        location = Location(self.where)
        with (
            self.assertRaises(ZeroDivisionError),
            location.alone(),
            location.migrating(self.engine) as connection,
        ):
            migrate(connection)
            raise ZeroDivisionError
        with self.engine.connect() as connection:
            self.assertEqual(self.tables(connection), set())


class FileMigrationTests(MigrationContract, SQLiteFile):
    """
    A file's steps.
    """

    lacks = (("add_index", SHARED_LOOKUP),)

    def test_indexes(self) -> None:
        """
        Each is used where it is meant to be, though it leaves rows out.
        """
        location = Location(self.where)
        with location.alone(), location.migrating(self.engine) as connection:
            migrate(connection)
        ordered = "expires_at > 5 ORDER BY expires_at DESC LIMIT 3"
        wanted = {
            f"* FROM sessions WHERE name = 'n' AND {ordered}": "SEARCH sessions USING INDEX sessions_name",
            f"* FROM sessions WHERE user = 'u' AND {ordered}": "SEARCH sessions USING INDEX sessions_user",
            f"* FROM calls WHERE account = 'a' AND asked = 'q' AND {ordered}": (
                "SEARCH calls USING INDEX calls_asked"
            ),
            "count(*), sum(size) FROM records": "SCAN records USING COVERING INDEX records_used",
        }
        with self.engine.connect() as connection:
            for query, how in wanted.items():
                plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT {query}")).all()
                self.assertTrue(plan[0][3].startswith(how), plan)


class PostgreSQLMigrationTests(MigrationContract, PostgreSQL):
    """
    A server's steps.
    """
