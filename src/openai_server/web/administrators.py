# -*- test-case-name: tests.flow.test_organization -*-
"""
Who may see what concerns all accounts.
"""

from __future__ import annotations

from openai_server.accounts.keyring import ANONYMOUS
from openai_server.config.exposure import isLoopback
from openai_server.errors import APIError
from openai_server.web.interfaces import Request


def isAdministrator(request: Request) -> bool:
    """
    Return whether a request comes from an administrator: from whoever has a key
    of one, or, where none is required, from this machine.
    """
    if request.account is not ANONYMOUS:
        return request.account is not None and request.account.isAdmin
    host = getattr(request.getClientAddress(), "host", None)
    # Without one, it is a socket in the file system.
    return host is None or isLoopback(host)


def checkAdministrator(request: Request) -> None:
    """
    @raise APIError: 403, the request comes from somebody else.
    """
    if not isAdministrator(request):
        raise APIError("admin_key_required", "This needs the API key of an administrator.")
