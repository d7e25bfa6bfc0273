"""
A server that dies where it is told to: before or after a write to the daemon,
to a client, or to the store, and any statement of that.

    python -m tests.machinery.mortal

reads lines of JSON from its input, and forks a server for each: what takes its
time is imported once. It writes a line when that server is gone: its status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from typing import Any, NoReturn

from twisted.internet import pollreactor


class Points:
    """
    Counts the points at which a server may die.
    """

    def __init__(self, deadly: int, file: str) -> None:
        """
        @param deadly: the number of the one at which it does; 0 for none.
        @param file: where a byte is added for each.
        """
        self._deadly = deadly
        self._number = count(1)
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def passed(self) -> None:
        """
        Die, or go on.
        """
        os.write(self._file, b".")
        if next(self._number) == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: object, name: str) -> None:
        """
        Let there be one before and one after each call of a method.
        """
        method: Callable[..., Any] = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.passed()
            result = method(*args, **kwargs)
            self.passed()
            return result

        setattr(owner, name, called)


def serve(order: dict[str, Any]) -> NoReturn:
    """
    Be a server.
    """
    from sqlalchemy import Engine, event
    from twisted.scripts.twistd import run

    from openai_server.outlet import Outlet
    from openai_server.store.database import Database

    points = Points(order["deadly"], order["points"])
    points.around(Outlet, "put")
    points.around(Database, "write")
    # What the journal notes.
    points.around(os, "pwrite")
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(Engine, name, lambda *_: points.passed())
    os.environ.update(order["environ"])
    output = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order["folder"])
    sys.argv = ["twistd", "-n", "--pidfile=", "openai-server"]
    run()
    sys.exit(0)


def main() -> None:
    """
    Fork servers, one after the other.
    """
    # A child would share what epoll knows with its parent.
    pollreactor.install()
    import openai_server.joining
    import openai_server.store.sqlstore
    import openai_server.tap
    import openai_server.web.front

    for module in (openai_server.joining, openai_server.store.sqlstore, openai_server.web.front):
        assert module
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            serve(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
