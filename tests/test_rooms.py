"""
Which room may import which: the house's table, checked against the imports. And
no circles, no class name twice, no private names of libraries.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import openai_server
from tests.support import SyncCase

SOURCE = Path(openai_server.__file__).parent

#: Modules that any room may use.
_SHARED = (
    *("clock", "constants", "coroutines", "deadlines", "errors", "log", "metrics", "outlet", "reports"),
    "runtime",
)
COMMON = {"openai_server", *(f"openai_server.{name}" for name in _SHARED)}

#: What may import everything: they join the rooms.
JOINS = {"tap", "joining", "mounting", "__init__"}

#: Room -> what else of ours it may import (a room, or one module of it).
MAY_IMPORT: dict[str, set[str]] = {
    "wire": {"wire"},
    "api": {"api"},
    "translate": {"translate", "wire", "api"},
    "sessions": {
        *("sessions", "wire", "api", "daemon.interfaces"),
        *(f"store.{name}" for name in ("interfaces", "saved", "membership", "topicwait")),
    },
    "store": {"store"},
    "daemon": {"daemon", "wire"},
    "embedded": {"embedded", "wire"},
    "accounts": {"accounts", "config", "store.interfaces", "store.savedkeys", "store.sharing"},
    "web": {
        *("web", "api", "wire", "translate", "sessions", "accounts", "config", "daemon.interfaces", "store"),
    },
    "telemetry": {"telemetry", "accounts", "config", "daemon", "greeting", "sideport", "store", "web"},
    "sideport": {"greeting", "service"},
    "service": {"greeting", "ports", "web.site", "daemon"},
    "ports": set(),
    "program": {"service", "supervision"},
    "supervision": set(),
    "processes": {"service", "greeting", "inheritance", "spawning", "supervision", "config"},
    "spawning": {"inheritance"},
    "inheritance": {"service", "greeting", "ports"},
    "greeting": set(),
    "daemonplaces": {"config", "daemon.paths"},
    "config": {"config"},
    "identity": set(),
    "errors": set(),
    "clock": set(),
    "constants": set(),
    "coroutines": set(),
    "deadlines": set(),
    "outlet": set(),
    "log": {"logoutput", "logwriter"},
    "logoutput": set(),
    "logwriter": {"logoutput"},
    "audit": {"logoutput", "logwriter"},
    "metrics": set(),
    "reports": set(),
    "runtime": set(),
    "ask": {"ask"},
    "admin": {
        *("admin", "accounts", "config", "store", "daemon.paths", "daemon.registry", "identity"),
        *("wire.tones", "daemonplaces"),
    },
}

#: Room -> packages of others that it must not import.
NEVER = {
    "wire": {"twisted", "klein", "treq"},
    "api": {"twisted", "klein", "treq"},
    "translate": {"twisted", "klein", "treq"},
    "sessions": {"klein", "treq"},
    "accounts": {"klein", "treq"},
    "store": {"klein", "treq"},
    "daemon": {"klein", "treq"},
    "embedded": {"klein", "treq"},
    "telemetry": {"klein"},
    "sideport": {"klein"},
    "service": {"klein"},
    "ports": {"klein"},
    "program": {"klein"},
    "supervision": {"klein"},
    "processes": {"klein"},
    "spawning": {"klein"},
    "inheritance": {"klein"},
    "greeting": {"klein"},
    "config": {"klein", "twisted"},
    "identity": {"klein", "twisted"},
    "errors": {"klein", "twisted"},
    "log": {"klein"},
    "logoutput": {"klein", "twisted"},
    "logwriter": {"klein", "twisted"},
    "metrics": {"klein"},
    "reports": {"klein", "twisted"},
    "audit": {"klein"},
    "runtime": {"klein", "twisted"},
    "ask": {"klein"},
    "admin": {"klein"},
}

#: Names that Python's own documentation has, in spite of how they begin.
DOCUMENTED = {"_exit"}

#: Programs of their own, which need not know the names of the others' classes.
APART = {"ask", "embedded"}

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

    def test_testModules(self) -> None:
        """
        The tests that a module names in its first line are there.
        """
        named = [
            (path.name, name)
            for path in SOURCE.rglob("*.py")
            if (found := re.match(r"# -\*- test-case-name: (\S+) -\*-", path.read_text(encoding="utf-8")))
            for name in found[1].split(",")
        ]
        self.assertGreater(len(named), 100)
        self.assertEqual([each for each in named if importlib.util.find_spec(each[1]) is None], [])

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


def nameOf(path: Path) -> str:
    """
    Return a module's dotted name without C{openai_server}.
    """
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {nameOf(path): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def neighbours(tree: ast.Module, modules: Iterable[str]) -> set[str]:
    """
    Return the modules of ours that a module imports, for type checkers alone
    and inside functions too.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}".removeprefix("openai_server.") for alias in node.names}
            found |= (names & set(modules)) or {node.module}
    return {name.removeprefix("openai_server.") for name in found} & set(modules)


def circlesIn(graph: Mapping[str, set[str]]) -> set[tuple[str, ...]]:
    """
    Return the largest groups in which each module reaches all the others.
    """
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    return {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in graph
        if name in reach[name]
    }


def isPrivate(name: str) -> bool:
    """
    Whether a name begins with one underscore.
    """
    return name.startswith("_") and not name.startswith("__")


def attributesOf(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """
    Yield each private attribute that is named, with whether it is one of
    C{self} or C{cls}.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isPrivate(node.attr):
            yield node.attr, isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and isPrivate(str(name.value)):
                yield name.value, ast.unparse(node.args[0]) == "self"


def definedIn(tree: ast.AST) -> set[str]:
    """
    Return the private names that a module or class makes: its functions, its
    class attributes and what it sets on C{self}.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
    return set(filter(isPrivate, found))


def privateUses(tree: ast.Module) -> set[str]:
    """
    Return private names of others that a module uses: imported ones, and
    attributes of other objects than C{self} that no class in it makes.
    """
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("openai_server")
        for alias in node.names
        if isPrivate(alias.name)
    }
    own = definedIn(tree)
    used = {name for name, isSelf in attributesOf(tree) if not isSelf and name not in own}
    return imported | used - DOCUMENTED


@cache
def classTrees(module: str) -> Mapping[str, ast.ClassDef]:
    """
    Return the classes of a module by their names; none when it is not written
    in Python.
    """
    path = getattr(sys.modules[module], "__file__", None) or ""
    tree = ast.parse(Path(path).read_text() if path.endswith(".py") else "")
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


@cache
def namesOf(kind: type) -> set[str]:
    """
    Return the private names that one class makes and uses itself.
    """
    tree = classTrees(kind.__module__).get(kind.__name__, ast.Module([], []))
    used = {name for name, isSelf in attributesOf(tree) if isSelf}
    return definedIn(tree) | used


def sharedNames(kind: type, package: str = "openai_server") -> set[str]:
    """
    Return the private names that a class of ours shares with the classes of
    others that it is made from.
    """
    bases = [base for base in kind.__mro__ if base is not object]
    ours = [namesOf(base) for base in bases if base.__module__.startswith(package)]
    theirs = [namesOf(base) for base in bases if not base.__module__.startswith(package)]
    return set().union(*ours) & set().union(*theirs)


def classesOf(module: ModuleType) -> list[type]:
    """
    Return the classes that a module makes.
    """
    return [
        kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__
    ]


class HouseTests(SyncCase):
    """
    Rules for all modules, whatever their room.
    """

    def circles(self) -> set[str]:
        """
        Return the groups of modules that import each other.
        """
        graph = {name: neighbours(tree, TREES) - {""} for name, tree in TREES.items()}
        return {f"circle: {', '.join(circle)}" for circle in circlesIn(graph)}

    def twice(self) -> set[str]:
        """
        Return the names that two classes have.
        """
        names = Counter(
            node.name
            for module, tree in TREES.items()
            if module.split(".")[0] not in APART
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        )
        return {f"twice: {name}" for name, count in names.items() if count > 1}

    def private(self) -> set[str]:
        """
        Return the uses of private names of libraries.
        """
        found = {f"private: {name} {use}" for name, tree in TREES.items() for use in privateUses(tree)}
        for name in TREES:
            if name.rpartition(".")[2] != "__main__":
                module = importlib.import_module(f"openai_server.{name}".rstrip("."))
                for kind in classesOf(module):
                    found |= {f"private: {name} {kind.__name__}.{use}" for use in sharedNames(kind)}
        return found

    def test_tests(self) -> None:
        """
        The tests that a module's first line names are there.
        """
        root = Path(__file__).parent.parent
        lost = []
        for path in sorted(SOURCE.rglob("*.py")):
            first, _, _ = path.read_text().partition("\n")
            names = first.partition("test-case-name: ")[2].removesuffix(" -*-")
            places = [root / name.replace(".", "/") for name in names.split(",") if name]
            isLost = [not (each.is_dir() or each.with_suffix(".py").exists()) for each in places]
            lost += [path.name] if any(isLost) else []
        self.assertEqual(lost, [])

    def test_noCircles(self) -> None:
        """
        No two modules import each other, by whatever way round.
        """
        self.assertEqual(self.circles(), set())

    def test_noClassNameTwice(self) -> None:
        """
        Who reads a class's name knows which one is meant.
        """
        self.assertEqual(self.twice(), set())

    def test_noPrivateNames(self) -> None:
        """
        What a library keeps to itself may be gone in its next version.
        """
        self.assertEqual(self.private(), set())


class CheckTests(SyncCase):
    """
    That L{HouseTests} would find something.
    """

    def test_circlesAreFound(self) -> None:
        """
        Long ones, two at once, and not who only leads to one.
        """
        graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"f"}, "f": {"e"}, "g": {"d"}}
        self.assertEqual(circlesIn(graph), {("a", "b", "c"), ("e", "f")})

    def test_importsForTypesCount(self) -> None:
        """
        Of modules and of what is in them.
        """
        code = (
            "if TYPE_CHECKING:\n    from openai_server.web.site import A\nfrom openai_server.web import http"
        )
        self.assertEqual(
            neighbours(ast.parse(code), {"web", "web.site", "web.http"}), {"web.site", "web.http"}
        )

    def test_privateNamesAreFound(self) -> None:
        """
        Read, written, asked for as text and imported; but not a module's own.
        """
        code = (
            "from twisted.web.http import _secret\nclass A:\n    def __init__(self):\n        self._own = 1\n"
        )
        code += "a._own = b._read\ngetattr(c, '_asked')\nd._set = 1"
        self.assertEqual(privateUses(ast.parse(code)), {"_secret", "_read", "_asked", "_set"})

    def test_sharedNamesAreFound(self) -> None:
        """
        What a class takes from its base, and what it covers by chance.
        """
        from twisted.internet.protocol import ReconnectingClientFactory

        class Ours(ReconnectingClientFactory):
            def callLater(self) -> object:
                self._own = self._callID
                return self._own

        self.assertEqual(sharedNames(Ours, "tests"), {"_callID"})
