# -*- test-case-name: tests.web.test_page -*-
"""
The page with its style and its script in it, so that a browser loads it in one
request. What modules import and export is written in the few ways that are
read here.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

_IMPORT: Final = re.compile(r'^import (\{ (?:\w+, )*\w+ \}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_UNREAD: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


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
    Return modules, each after those that it needs, as one.

    @raise ValueError: if one imports or exports in a way that is not read here.
    """
    return "".join(map(_enclosed, modules))


def insert(page: str, name: str, content: str, element: str) -> tuple[str, str]:
    """
    Put the content of a file into the page, in place of the line that names it.

    @param element: C{style} or C{script}.
    @return: the page, and the source that lets a policy permit this content.
    @raise ValueError: if the page does not name it once, or HTML would end the
        element before its content ends.
    """
    lines = re.findall(rf'^<.*"page/{re.escape(name)}".*$', page, re.MULTILINE)
    if len(lines) != 1:
        raise ValueError(f"the page names {name} {len(lines)} times, not once")
    if re.search(rf"</{element}|<!--", content, re.IGNORECASE):
        raise ValueError(f"{name} cannot be within the page, since it holds </{element} or <!--")
    attribute = ' type="module"' if element == "script" else ""
    digest = b64encode(sha256(content.encode()).digest()).decode()
    whole = page.replace(lines[0], f"<{element}{attribute}>{content}</{element}>")
    return whole, f"'sha256-{digest}'"


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
    body = _IMPORT.sub(r"const \1 = $\2;", _EXPORT.sub("", text))
    for line in _UNREAD.findall(body):
        raise ValueError(f"{module.name} cannot be joined: {line}")
    return f"const ${module.stem} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
