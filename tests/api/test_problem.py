"""
Errors as bodies.
"""

from __future__ import annotations

import json

from openai_server.api.problem import errorBody
from openai_server.errors import KINDS, APIError
from tests.support import SyncCase


class ErrorBodyTests(SyncCase):
    """
    L{errorBody}.
    """

    def test_exactBytes(self) -> None:
        """
        All four members are there.
        """
        body = errorBody(APIError("invalid_value", "No 'messages'.", param="messages"))
        self.assertEqual(
            body,
            b'{"error":{"message":"No \'messages\'.","type":"invalid_request_error","param":"messages",'
            b'"code":"invalid_value"}}',
        )

    def test_messageNamesTheField(self) -> None:
        """
        By its whole path, where the words do not.
        """
        error = json.loads(errorBody(APIError("invalid_value", "Too long.", param="tools[0].function.name")))
        self.assertEqual(error["error"]["message"], "'tools[0].function.name': Too long.")

    def test_everyKind(self) -> None:
        """
        Of each kind the code is a string or null, never a number.
        """
        for name, kind in KINDS.items():
            error = json.loads(errorBody(APIError(name, "x")))["error"]
            self.assertEqual(error, {"message": "x", "type": kind.type, "param": None, "code": kind.code})

    def test_whatCannotBeEncoded(self) -> None:
        """
        A lone surrogate in the words does not keep an error from going out.
        """
        error = json.loads(errorBody(APIError("bad_request", "a\ud800b", param="\udfff")))["error"]
        self.assertEqual((error["message"], error["param"]), ("'?': a?b", "?"))
