"""
Requests that look harmless and would harm the worker or everybody else: what
becomes of them, and that nobody else notices.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from openai_server.translate.attachments import SLICE
from tests.dialects import CHAT, inBothAPIs
from tests.support import SyncCase
from tests.world import World

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@inBothAPIs
class RefusalTests(SyncCase):
    """
    Questions, through the whole server.
    """

    def test_chainedReferences(self) -> None:
        """
        (C23) A shallow schema that unfolds: it is asked, and the calls of
        everybody go on being routed.
        """
        world = World(self)
        defs: dict[str, Any] = {
            f"d{n}": {"$ref": f"#/$defs/d{n + 1}", "properties": {"p": {"const": n}}} for n in range(400)
        }
        parameters = {"$ref": "#/$defs/d0", "$defs": defs}
        odd = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
        first = world.ask("hi", model="echo", tools=[odd])
        world.advance(2)
        self.assertEqual(first.status, 200)
        second = world.script({"tool": "f", "args": {}}, tools=[FUNCTION], stream=True)
        world.advance(2)
        self.assertEqual([call["function"]["name"] for call in second.calls], ["f"])
        self.assertEqual(world.link.counts["unrouted_calls"], 0)
        world.advance(300, 5)

    def test_numberBeyondADouble(self) -> None:
        """
        The daemon would drop the prompt, and the client would wait for
        nothing.
        """
        world = World(self)
        number = b"1" + b"0" * 400
        for field, param in (
            (
                b'"tools":[{"type":"function","function":{"name":"f","parameters":{"maximum":%b}}}]',
                "tools[0].function.parameters",
            ),
            (
                b'"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"maximum":%b}}}',
                "response_format.json_schema.schema",
            ),
        ):
            body = b'{"model":"echo","messages":[{"role":"user","content":"x"}],' + field % number + b"}"
            client = world.client().post(body, CHAT.path)
            client.wire.read()
            self.assertEqual((client.status, client.error["param"]), (400, param))
        self.assertEqual(world.sent("prompt"), [])

    def test_badBase64InTheMiddle(self) -> None:
        """
        (U29) However attachments go out, all of their data is checked, the
        reactor turns meanwhile, and nothing is left of what was no good.
        """
        data = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(SLICE * 3)).decode()
        bad = f"{data[: 3 * SLICE]}!{data[3 * SLICE + 1 :]}"
        for attachments in ("tone", "file", "both"):
            world = World(self, attachments=attachments)
            client = world.ask(
                [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "look"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{each}"}},
                        ],
                    }
                    for each in (data, bad)
                ],
                model="echo",
            )
            self.assertIsNone(client.status, "it was checked in one go")
            world.advance(1, 0.001)
            param = f"{self.api.messages}[1].content[1].{self.api.image}"
            self.assertEqual((client.status, client.error["param"]), (400, param))
            self.assertEqual((world.sent("prompt"), world.front.submitter.folder.usedBytes), ([], 0))
            world.settle()
