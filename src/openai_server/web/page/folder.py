# -*- test-case-name: tests.web.test_page -*-
"""
Where the page's files lie, and at which paths they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from openai_server.web.page.joined import modulesOf

_FOLDER: Final = Path(__file__).parent / "static"

#: The page itself, which is at C{/} for those who want HTML.
INDEX: Final = _FOLDER / "index.html"

#: What is within the page: its style, and the modules that start it.
STYLE: Final = _FOLDER / "page.css"
MODULES: Final = modulesOf(_FOLDER / "app.js")

#: All other files by their paths. They need no key: nothing in them is secret,
#: and a browser that opens an address can send none.
FILES: Final[Mapping[str, Path]] = {
    f"/page/{path.name}": path
    for path in sorted(_FOLDER.iterdir())
    if path not in (INDEX, STYLE, *MODULES)
}
