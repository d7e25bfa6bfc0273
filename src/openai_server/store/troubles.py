# -*- test-case-name: tests.store.test_database -*-
"""
What can be wrong with a database, in one word each.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DataError as BadData
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from openai_server.store.interfaces import StoreError

#: What was to be written is wrong.
_MISTAKES: Final = (BadData, IntegrityError, sqlite3.DataError, sqlite3.IntegrityError)
#: By how SQLite's names of errors begin.
_SQLITE: Final = {
    "SQLITE_FULL": "full",
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_READONLY": "read-only",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_NOTADB": "corrupt",
    "SQLITE_CANTOPEN": "unreachable",
    "SQLITE_IOERR": "failing",
}
#: By PostgreSQL's codes of errors.
_POSTGRESQL: Final = {
    "53100": "full",
    "25006": "read-only",
    "55P03": "locked",
    "57014": "slow",
}


class Trouble(Exception):
    """
    The database cannot be used for now.

    @ivar word: what is wrong, as L{troubleOf} says it.
    @ivar isUnsure: whether what was to be written may be written nevertheless:
        the answer to a commit was lost.
    """

    def __init__(self, word: str, said: str = "") -> None:
        super().__init__(said or word)
        self.word = word
        self.isUnsure = False


def troubleOf(error: BaseException) -> str | None:
    """
    Return what is wrong with the database: C{full}, C{locked}, C{read-only},
    C{corrupt}, C{slow}, C{unreachable}, C{refused} or C{failing}. None where it is what
    was to be written that is wrong.
    """
    if isinstance(error, Trouble):
        return error.word
    if isinstance(error, StoreError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "locked"
    if isinstance(error, PoolTimeout):
        return "slow"
    if isinstance(error, OSError):
        return "unreachable"
    if isinstance(error, _MISTAKES):
        return None
    if not isinstance(error, (DBAPIError, sqlite3.Error)):
        return None
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        name = str(getattr(cause, "sqlite_errorname", ""))
        return next((word for start, word in _SQLITE.items() if name.startswith(start)), "failing")
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return "unreachable"
    return _POSTGRESQL.get(state, "unreachable" if state.startswith(("08", "57")) else "failing")
