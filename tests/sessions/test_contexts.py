"""
What has to be equal for a session to go on.
"""

from __future__ import annotations

from openai_server.sessions.contexts import contextFrom, toolSetFrom
from openai_server.wire.tones import ToolDefinition
from tests.support import SyncCase


def tool(name: str = "f", description: str = "does", **properties: object) -> ToolDefinition:
    """
    A tool.
    """
    return ToolDefinition(
        name=name, description=description, inputSchema={"type": "object", "properties": properties}
    )


class ToolSetTests(SyncCase):
    def test_orderDoesNotCount(self) -> None:
        """
        Neither the tools' order nor that of a schema's members makes another
        catalogue.
        """
        one = toolSetFrom([tool("f", a=1, b=2), tool("g")])
        self.assertEqual(one, toolSetFrom([tool("g"), tool("f", b=2, a=1)]))
        assert one is not None
        self.assertEqual(one.names, {"f", "g"})

    def test_everyPartCounts(self) -> None:
        """
        Name, description, schema and the number of tools do.
        """
        base = [tool("f")]
        for other in ([tool("g")], [tool("f", "did")], [tool("f", a=1)], [tool("f"), tool("g")]):
            self.assertNotEqual(toolSetFrom(base), toolSetFrom(other))

    def test_noTools(self) -> None:
        """
        No tools are no catalogue.
        """
        self.assertIsNone(toolSetFrom([]))


class ContextTests(SyncCase):
    def test_everyPartCounts(self) -> None:
        """
        U33: another model, system prompt, tool set or instruction, or another
        rest of the worker's own tools is another context.
        """
        tools = toolSetFrom([tool()])
        contexts = [
            contextFrom("m", "s", tools, "call", format="json"),
            contextFrom("n", "s", tools, "call", format="json"),
            contextFrom("m", "t", tools, "call", format="json"),
            contextFrom("m", "", tools, "call", format="json"),
            contextFrom("m", "s", None, "call", format="json"),
            contextFrom("m", "s", tools, format="json"),
            contextFrom("m", "s", tools, "call", "", format="json"),
            contextFrom("m", "s", tools, "call"),
            contextFrom("m", "s", tools, "call", format="json", cwd="/a"),
            contextFrom("m", "s", tools, "call", format="json", cwd="/b"),
            contextFrom("m", "s", tools, "call", format="json", ownTools="none"),
            contextFrom("m", "s", tools, "call", format="json", ownTools="reader"),
        ]
        self.assertEqual(len(set(contexts)), len(contexts))
        self.assertEqual(contexts[0], contextFrom("m", "s", toolSetFrom([tool()]), "call", format="json"))

    def test_noSystemPrompt(self) -> None:
        """
        A request that says nothing of a system prompt can be told.
        """
        self.assertEqual(contextFrom("m", "", None).system, b"")
        self.assertNotEqual(contextFrom("m", "s", None).system, b"")
