"""
Which room may import which: the house's table, checked against the imports.
"""

from __future__ import annotations

import ast
from pathlib import Path

import openai_server
from tests.support import SyncCase

SOURCE = Path(openai_server.__file__).parent

#: Modules that any room may use.
COMMON = {"openai_server"} | {
    f"openai_server.{name}" for name in ("clock", "constants", "errors", "log", "metrics", "runtime")
}

#: What may import everything: they join the rooms.
JOINS = {"tap", "joining", "__init__"}

#: Room -> what else of ours it may import (a room, or one module of it).
MAY_IMPORT: dict[str, set[str]] = {
    "wire": {"wire"},
    "api": {"api"},
    "translate": {"translate", "wire", "api"},
    "sessions": {"sessions", "wire", "api", "daemon.interfaces"},
    "daemon": {"daemon", "wire"},
    "embedded": {"embedded", "wire"},
    "web": {"web", "api", "wire", "translate", "sessions", "config", "daemon.interfaces"},
    "service": {"greeting", "web.site", "daemon"},
    "program": {"service"},
    "greeting": set(),
    "config": {"config"},
    "identity": set(),
    "errors": set(),
    "clock": set(),
    "constants": set(),
    "log": set(),
    "metrics": set(),
    "runtime": set(),
    "ask": {"ask"},
}

#: Room -> packages of others that it must not import.
NEVER = {
    "wire": {"twisted", "klein", "treq"},
    "api": {"twisted", "klein", "treq"},
    "translate": {"twisted", "klein", "treq"},
    "sessions": {"klein", "treq"},
    "daemon": {"klein", "treq"},
    "embedded": {"klein", "treq"},
    "service": {"klein"},
    "program": {"klein"},
    "greeting": {"klein"},
    "config": {"klein", "twisted"},
    "identity": {"klein", "twisted"},
    "errors": {"klein", "twisted"},
    "log": {"klein"},
    "metrics": {"klein"},
    "runtime": {"klein", "twisted"},
    "ask": {"klein"},
}


def importsOf(path: Path) -> set[str]:
    """
    The dotted names that a module imports, C{from x import y} as C{x}.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def roomOf(path: Path) -> str:
    """
    The room a module of ours stands in: its folder, or itself.
    """
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def isAllowed(name: str, room: str) -> bool:
    """
    Whether a module in this room may import this module of ours.
    """
    if name in COMMON:
        return True
    inside = name.removeprefix("openai_server.")
    return any(inside == may or inside.startswith(may + ".") for may in MAY_IMPORT[room])


class RoomTests(SyncCase):
    """
    The import rules of the rooms.
    """

    def test_ownImports(self) -> None:
        """
        Every module imports only from the rooms that its own may use.
        """
        wrong = [
            f"{path.relative_to(SOURCE)} imports {name}"
            for path in sorted(SOURCE.rglob("*.py"))
            if roomOf(path) not in JOINS
            for name in sorted(importsOf(path))
            if name.split(".")[0] == "openai_server" and not isAllowed(name, roomOf(path))
        ]
        self.assertEqual(wrong, [])

    def test_foreignImports(self) -> None:
        """
        The pure rooms import no Twisted, and only web imports klein.
        """
        wrong = [
            f"{path.relative_to(SOURCE)} imports {name}"
            for path in sorted(SOURCE.rglob("*.py"))
            for name in sorted(importsOf(path))
            if name.split(".")[0] in NEVER.get(roomOf(path), set())
        ]
        self.assertEqual(wrong, [])

    def test_everyRoomHasItsRow(self) -> None:
        """
        A room that nobody put into the table is found.
        """
        rooms = {roomOf(path) for path in SOURCE.rglob("*.py")} - JOINS
        self.assertEqual(rooms - set(MAY_IMPORT), set())
