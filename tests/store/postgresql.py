"""
A PostgreSQL server of the tests' own, on a Unix socket in a folder of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any
from unittest import SkipTest

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


def programs() -> Path | None:
    """
    Where the programs of the server are; None where it is not installed.
    """
    found = sorted(glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb") or ""]
    return Path(os.path.realpath(found[-1])).parent if found[-1] else None


class Server:
    """
    One server.

    @ivar url: of its database.
    """

    def __init__(self, folder: Path, bin: Path) -> None:
        self._bin = bin
        self._folder = folder
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            # It refuses to run as root.
            user = pwd.getpwnam(next(name for name in ("postgres", "nobody") if _isUser(name)))
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.url = f"postgresql+psycopg://tester@/postgres?host={folder}"
        self._run("initdb", "--auth=trust", "--username=tester", "--no-sync", "--encoding=UTF8", "--locale=C")

    def start(self) -> None:
        """
        Start it, and wait until it is there.
        """
        settings = f"-k {self._folder} -c listen_addresses= -c fsync=off -c max_connections=40"
        self._run("pg_ctl", "start", "--wait", "--timeout=30", f"--log={self._folder}/log", "-o", settings)

    def stop(self) -> None:
        """
        Stop it, and cut whoever is connected.
        """
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", mayFail=True)

    def endWithThisProcess(self) -> None:
        """
        Let it be stopped and removed when this process ends, however it does.
        """
        script = 'read -r _; "$0" -D "$1/data" stop --mode=immediate; rm -rf "$1"'
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", script, str(self._bin / "pg_ctl"), str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **self._as,
        )

    def cut(self) -> None:
        """
        Cut all connections.
        """
        cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        self._execute(f"{cut} AND backend_type = 'client backend'")

    def clear(self) -> None:
        """
        Remove all that is in it.
        """
        self.cut()
        self._execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def _execute(self, *statements: str) -> None:
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def _run(self, program: str, *arguments: str, mayFail: bool = False) -> None:
        command = [str(self._bin / program), "-D", str(self._folder / "data"), *arguments]
        # A server keeps the output of whoever starts it open.
        with open(self._folder / "output", "ab") as output:
            done = subprocess.run(
                command,
                check=False,
                cwd="/",
                timeout=60,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **self._as,
            )
        if done.returncode and not mayFail:
            raise RuntimeError(f"{program}: {(self._folder / 'output').read_text()}")


@cache
def server() -> Server:
    """
    The server of this process, started when it is first asked for.

    @raise SkipTest: it is not installed.
    """
    bin = programs()
    if bin is None:
        raise SkipTest("PostgreSQL is not installed")
    made = Server(Path(tempfile.mkdtemp(prefix="openai-server-pg-")), bin)
    made.endWithThisProcess()
    made.start()
    return made


def _isUser(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
