"""
The Responses API over WebSockets with the official C{openai} package, over real
sockets.
"""

from __future__ import annotations

from typing import Any

from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tests.serving import ServingCase, inLoop, inThread, script
from tests.test_sdk_responses import LOOK


def responseIn(connection: Any) -> Any:
    """
    The response that the events of a connection lead to next.
    """
    for event in connection:
        if event.type in ("response.completed", "response.failed", "response.incomplete"):
            return event.response
        assert event.type != "error", event
    raise AssertionError("closed")


class ConnectTests(ServingCase):
    """
    C{responses.connect()}.
    """

    @inThread
    def test_conversation(self) -> None:
        """
        Text, a call and its result, one after the other, without anything being
        stored.
        """
        with self.client.responses.connect() as connection:
            connection.response.create(model="echo", input="hello there", store=False)
            first = responseIn(connection)
            self.assertEqual((first.output_text, first.status), ("hello there", "completed"))
            steps = script({"tool": "look", "args": {"at": "tree"}}, {"say": "so"})
            connection.response.create(
                model="script", input=steps, tools=[LOOK], store=False, previous_response_id=first.id
            )
            asked = responseIn(connection)
            call = asked.output[0]
            self.assertEqual((call.type, call.name), ("function_call", "look"))
            connection.response.create(
                model="script",
                input=[{"type": "function_call_output", "call_id": call.call_id, "output": "green"}],
                tools=[LOOK],
                store=False,
                previous_response_id=asked.id,
            )
            answer = responseIn(connection)
            self.assertIn("so", answer.output_text)
            self.assertEqual(answer.previous_response_id, asked.id)

    @inThread
    def test_lanes(self) -> None:
        """
        Two at the same time, told apart by their C{stream_id}.
        """
        with self.client.responses.connect() as connection:
            for lane in ("one", "two"):
                connection.response.create(model="echo", input=f"in {lane}", stream_id=lane)
            texts = {}
            for event in connection:
                if event.type == "response.completed":
                    texts[event.stream_id] = event.response.output_text
                    if len(texts) == 2:
                        break
        self.assertEqual(texts, {"one": "in one", "two": "in two"})

    @inThread
    def test_errors(self) -> None:
        """
        Are events of the package's own type, and the connection goes on.
        """
        with self.client.responses.connect() as connection:
            connection.response.create(model="echo", input="x", previous_response_id="resp_none")
            event: Any = connection.recv()
            self.assertEqual((event.type, event.status), ("error", 400))
            self.assertEqual(event.error.code, "previous_response_not_found")
            connection.response.create(model="echo", input="x", generate=False)
            self.assertEqual(responseIn(connection).output, [])

    @inThread
    def test_large(self) -> None:
        """
        Messages of a megabyte, both ways.
        """
        text = "é" * 500_000
        with self.client.responses.connect() as connection:
            connection.response.create(model="echo", input=text)
            self.assertEqual(responseIn(connection).output_text, text)
            connection.send_raw(b"bytes")
            error = self.assertRaises(ConnectionClosedError, connection.recv)
            assert error.rcvd is not None
            self.assertEqual(error.rcvd.code, 1003)

    @inThread
    def test_otherPaths(self) -> None:
        """
        There is no WebSocket elsewhere.
        """
        elsewhere = self.newClient(base_url=f"{self.client.base_url}chat/")
        error = self.assertRaises(InvalidStatus, elsewhere.responses.connect().enter)
        self.assertEqual(error.response.status_code, 404)

    @inLoop
    async def test_async(self) -> None:
        """
        The same in a loop.
        """
        async with self.newAsyncClient() as client, client.responses.connect() as connection:
            for text in ("a", "b"):
                await connection.response.create(model="echo", input=text)
                async for event in connection:
                    if event.type == "response.completed":
                        self.assertEqual(event.response.output_text, text)
                        break
