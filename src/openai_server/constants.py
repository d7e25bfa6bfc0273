# -*- test-case-name: tests.test_tap -*-
"""
Numbers that nobody needs to turn, in seconds. They are read where they are used,
as C{constants.X}, so that a test can set one for itself.
"""

from __future__ import annotations

#: Tool calls that arrive this close together share one answer: a model's calls of
#: one step come within some milliseconds, and a human does not notice the wait.
COLLECT_WINDOW: float = 0.02

#: The longest that a stream's headers wait for its first token: until then an error
#: has a status of its own; SDKs and proxies give up on silence much later.
HEADERS_HOLD: float = 10

#: How long a cancelled turn may keep its place: today's worker ignores the cancel,
#: and the place of a turn that never ends must not be lost.
DRAIN_SLOT: float = 30

#: How long a turn waits for its client's automatic retry: OpenAI's SDKs come again
#: after half a second to two.
RETRY_GRACE: float = 2

#: From a prompt to the daemon's echo, and from a heartbeat to any answer. The daemon
#: echoes at once when it lives.
ECHO_TIMEOUT: float = 10

#: From connecting to the daemon to its first breath, which it sends at once.
HANDSHAKE_TIMEOUT: float = 5

#: Between two heartbeats: the daemon tells nobody that it hangs.
HEARTBEAT_INTERVAL: float = 15
