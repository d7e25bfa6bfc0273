# -*- test-case-name: tests.ask -*-
"""
A small client for the terminal, and a newcomer's first test of a server::

    python -m openai_server.ask "ping"
    python -m openai_server.ask --models

The answer is written as it arrives; Ctrl-C closes the connection, which
cancels the turn. Whatever goes wrong is one line on standard error. Exit codes:
0 a whole answer, 1 an error, 2 a wrong command line, 130 cancelled.
"""

from typing import Final

#: The exit code after Ctrl-C, as shells have it.
CANCELLED: Final = 130
