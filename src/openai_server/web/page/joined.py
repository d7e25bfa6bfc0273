# -*- test-case-name: tests.web.test_page -*-
"""
Modules of the page's as one script, so that a browser loads it in one request.
What they import and export is written in the few ways that are read here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_IMPORT: Final = re.compile(r'^import (\{ (?:\w+, )*\w+ \}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_ANY: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def modulesOf(entry: Path) -> list[Path]:
    """
    Return a module and all that it imports, each after those that it needs.

    @raise ValueError: if modules need each other.
    """
    modules: list[Path] = []
    _collect(entry, modules, ())
    return modules


def join(modules: Sequence[Path]) -> str:
    """
    Return modules, each after those that it needs, as one that exports what the
    last of them does.

    @raise ValueError: if one imports or exports in a way that is not read here.
    """
    *needed, last = modules
    return "".join(map(_enclosed, needed)) + _linked(last.read_text(), last)


def _collect(module: Path, modules: list[Path], above: tuple[Path, ...]) -> None:
    if module in above:
        raise ValueError(f"{module.name} needs itself by {above[-1].name}")
    for _, name in _IMPORT.findall(module.read_text()):
        _collect(module.with_name(f"{name}.js"), modules, (*above, module))
    if module not in modules:
        modules.append(module)


def _enclosed(module: Path) -> str:
    # Names of its own stay its own in a function; "$" keeps it apart from theirs.
    text = module.read_text()
    exported = ", ".join(_EXPORT.findall(text))
    body = _linked(_EXPORT.sub("", text), module)
    return f"const ${module.stem} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _linked(text: str, module: Path) -> str:
    linked = _IMPORT.sub(r"const \1 = $\2;", text)
    for line in _ANY.findall(linked):
        if not _EXPORT.match(line):
            raise ValueError(f"{module.name} cannot be joined: {line}")
    return linked
