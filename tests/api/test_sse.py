"""
Framing of events.
"""

from __future__ import annotations

from openai_server.api.sse import errorEvent, jsonLine
from openai_server.errors import APIError
from tests.support import SyncCase


class FramingTests(SyncCase):
    """
    L{jsonLine} and L{errorEvent}.
    """

    def test_oneLineForEveryReader(self) -> None:
        """
        Separators at which some clients split are escaped; the rest stays.
        """
        self.assertEqual(
            jsonLine("a\u2028\u2029\x85\u00e9\u20ac\n"), b'"a\\u2028\\u2029\\u0085\xc3\xa9\xe2\x82\xac\\n"'
        )

    def test_error(self) -> None:
        """
        The pure error object: no choices, nothing else.
        """
        event = errorEvent(APIError("worker_error", "a\u2028\u00e9"))
        self.assertEqual(
            event,
            'data: {"error":{"message":"a\\u2028\u00e9","type":"server_error","param":null,'
            '"code":"worker_error"}}\n\n'.encode(),
        )
        plain = errorEvent(APIError("worker_error", "plain"))
        self.assertTrue(plain.endswith(b'"code":"worker_error"}}\n\n'))
