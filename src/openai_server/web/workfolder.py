# -*- test-case-name: tests.web.test_workfolder -*-
"""
The folder that a request wants its worker to work in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from openai_server.errors import APIError


def workFolder(asked: str, roots: Iterable[str]) -> str:
    """
    Return the folder that a request asks for, all links followed.

    @param roots: it has to be one of these, or below one.
    @raise APIError: 403: it is not. The same is said of a folder that is not
        there, so that nobody learns what is.
    """
    try:
        folder = os.path.realpath(asked)
        # Its name goes to the daemon as JSON.
        folder.encode()
        isAllowed = os.path.isabs(asked) and os.path.isdir(folder)
    except (OSError, ValueError):
        isAllowed = False
    if not isAllowed or not any(_isBelow(folder, os.path.realpath(root)) for root in roots):
        raise APIError(
            "cwd_not_allowed",
            "The worker may not work in this folder. Name one by its absolute path; its operator can allow"
            " folders with the setting cwdRoots.",
        )
    return folder


def _isBelow(folder: str, root: str) -> bool:
    return os.path.commonpath((folder, root)) == root
