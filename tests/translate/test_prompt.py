"""
Requests as prompts.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.chat.request import inquiryFromBody
from openai_server.api.inquiry import Inquiry
from openai_server.errors import APIError
from openai_server.translate.prompt import (
    MAX_SYSTEM,
    formatInstruction,
    ownSystemText,
    promptFrom,
    samplingFrom,
    systemText,
    textFromInquiry,
    textFromTail,
)
from openai_server.translate.tools import offerFrom
from openai_server.wire.tones import Attachment, Prompt, lineFromTone
from tests.support import SyncCase

PNG = "data:image/png;base64,iVBORw0KGgo="


def request(*messages: dict[str, Any], **more: Any) -> Inquiry:
    """
    A request with these messages.
    """
    return inquiryFromBody(json.dumps({"model": "m", "messages": messages, **more}).encode())


def user(content: Any) -> dict[str, Any]:
    """
    A user's message.
    """
    return {"role": "user", "content": content}


def system(content: Any, role: str = "system") -> dict[str, Any]:
    """
    An instruction.
    """
    return {"role": role, "content": content}


class QuestionTests(SyncCase):
    """
    L{textFromInquiry} and L{textFromTail}.
    """

    def test_singleUserMessageIsVerbatim(self) -> None:
        """
        Nothing is added, trimmed or lost.
        """
        for words in ("hi", "  \n[b user]\n\0\u2028 ", ""):
            question = textFromInquiry(request(user(words)), "b")
            self.assertEqual((question.systemPrompt, question.content()), (None, words))

    def test_slashAtTheBeginning(self) -> None:
        """
        (X29) The CLI would take it for a command: one blank goes before it, in
        a fresh session and in a warm one, and nowhere else.
        """
        parts = [{"type": "text", "text": "/mo"}, {"type": "text", "text": "del opus"}]
        for content, expected in (
            ("/compact", " /compact"),
            ("/etc/hosts", " /etc/hosts"),
            (parts, " /model opus"),
            (" /help", " /help"),
            ("say /help", "say /help"),
        ):
            fresh = textFromInquiry(request(system("/s"), user(content)), "b")
            told = (user("a"), {"role": "assistant", "content": "b"})
            warm = textFromTail(request(*told, user(content)), 2, "b")
            self.assertEqual((fresh.content(), warm.content()), (expected, expected))
            self.assertEqual(fresh.systemPrompt, "/s")

    def test_leadingInstructions(self) -> None:
        """
        All of them, in order, in the system prompt; empty ones leave no
        trace.
        """
        parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
        messages = (system("a"), system(parts, "developer"), system(""), user("hi"))
        question = textFromInquiry(request(*messages), "b")
        self.assertEqual((question.systemPrompt, question.content()), ("a\n\nbc", "hi"))

    def test_laterInstructionsStayInPlace(self) -> None:
        """
        In the transcript.
        """
        question = textFromInquiry(request(system("a"), user("hi"), system("late")), "bnd")
        self.assertEqual(question.systemPrompt, "a")
        self.assertIn("[bnd system instruction]\nlate", question.content())
        self.assertNotIn("]\na\n", question.content())

    def test_noUserMessage(self) -> None:
        """
        Something is said all the same; a lone answer is to be continued.
        """
        self.assertTrue(textFromInquiry(request(system("a")), "b").content())
        lone = textFromInquiry(request({"role": "assistant", "content": "I"}), "bnd").content()
        self.assertIn("[bnd assistant]\nI", lone)

    def test_nulInTheSystemPrompt(self) -> None:
        """
        (C27) It would end the worker's argument; content may hold it.
        """
        question = textFromInquiry(request(system("a\0b"), user("c\0d")), "b")
        self.assertEqual((question.systemPrompt, question.content()), ("ab", "c\0d"))

    @settings(deadline=None, max_examples=20)
    @given(st.integers(-2, 3), st.sampled_from("a\u00e9\u20ac\U0001f600"))
    def test_longSystemPrompt(self, more: int, letter: str) -> None:
        """
        (C27) The rest moves to the head of the content, cut between characters.
        """
        words = "x" * (MAX_SYSTEM + more - 1) + letter + "END"
        question = textFromInquiry(request(system(words), user("hi")), "b")
        assert question.systemPrompt is not None
        self.assertLessEqual(len(question.systemPrompt.encode()), MAX_SYSTEM)
        self.assertGreater(len(question.systemPrompt.encode()), MAX_SYSTEM - 4)
        content = question.content()
        rest = content[content.index(":\n") + 2 : content.rindex("\n\nEnd of the instructions.\n\nhi")]
        self.assertEqual(question.systemPrompt + rest, words)

    def test_systemPromptThatJustFits(self) -> None:
        """
        Is left whole.
        """
        words = "x" * MAX_SYSTEM
        question = textFromInquiry(request(system(words), user("hi")), "b")
        self.assertEqual((question.systemPrompt, question.content()), (words, "hi"))

    def test_tail(self) -> None:
        """
        Only what is new: one message of the user's verbatim, more of them as
        a transcript.
        """
        asked = request(system("s"), user("a"), {"role": "assistant", "content": "b"}, user("c"), user("d"))
        question = textFromTail(asked, 4, "bnd")
        self.assertEqual((question.systemPrompt, question.content()), ("s", "d"))
        both = textFromTail(asked, 3, "bnd").content()
        self.assertIn("[bnd user]\nc\n\n[bnd user]\nd", both)
        self.assertNotIn("assistant]", both)

    def test_tailOfResults(self) -> None:
        """
        The calls that they answer are told again, without what was said
        beside them.
        """
        call = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{}"}}
        said = {"role": "assistant", "content": "Looking.", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
        content = textFromTail(request(user("a"), said, result), 2, "bnd").content()
        self.assertIn('[bnd assistant calls the tool "get" with the id "c1"]\n{}', content)
        self.assertIn('[bnd result of the tool "get" with the id "c1"]\nrain', content)
        self.assertNotIn("Looking", content)

    def test_paramsOfATail(self) -> None:
        """
        Places are those of the request.
        """
        bad = user([{"type": "image_url", "image_url": "file:///x"}])
        asked = request(user("a"), user("b"), bad)
        error = self.assertRaises(APIError, textFromTail, asked, 2, "b")
        self.assertEqual(error.param, "messages[2].content[0].image_url")

    def test_attachments(self) -> None:
        """
        In order, each with its line, and the file that holds it.
        """
        parts = [
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": PNG},
            {"type": "image_url", "image_url": "http://x/a.gif"},
        ]
        question = textFromInquiry(request(user(parts)), "b")
        self.assertEqual([each.mediaType for each in question.attachments], ["image/png", "image/gif"])
        for paths, shown in (((), ""), (("/x/1", None), ", file /x/1"), ((None, None), "")):
            self.assertEqual(
                question.content(paths),
                f"see\n[image attached: image/png, 8 bytes{shown}]\n"
                "[image attached: image/gif, address http://x/a.gif]",
            )


class SystemTextTests(SyncCase):
    """
    L{systemText} and L{formatInstruction}.
    """

    def test_wishes(self) -> None:
        """
        What a request wishes stands behind what its author said.
        """
        tool = {"type": "function", "function": {"name": "f", "description": "y" * 3000}}
        asked = request(
            system("a"),
            user("b"),
            tools=[tool],
            tool_choice="required",
            response_format={"type": "json_object"},
        )
        said = systemText(asked, offerFrom(asked)).split("\n\n")
        self.assertEqual(said[0], "a")
        self.assertTrue(said[1].startswith("Description of the tool f:\nyyy"))
        self.assertTrue(said[2].startswith("Answer with a call"))
        self.assertTrue(said[3].startswith("Answer with JSON and nothing else"))
        self.assertEqual(ownSystemText(asked), "a")

    def test_formats(self) -> None:
        """
        Nothing for text; the schema as it was sent.
        """
        schema = {"name": "n", "schema": {"type": "object"}, "description": "a thing"}
        for wanted, ends in (
            (None, ""),
            ({"type": "text"}, ""),
            ({"type": "json_object"}, "It must be one JSON object."),
            (
                {"type": "json_schema", "json_schema": schema},
                'It must be valid against this JSON Schema: {"type":"object"} It is: a thing',
            ),
            ({"type": "json_schema", "json_schema": {"name": "n"}}, "It must be one JSON object."),
        ):
            said = formatInstruction(request(user("x"), response_format=wanted).format)
            self.assertTrue(said.endswith(ends) and bool(said) == bool(ends), said)


class SamplingTests(SyncCase):
    """
    L{samplingFrom}.
    """

    def test_nothing(self) -> None:
        """
        No wish, no block.
        """
        self.assertIsNone(samplingFrom(request(user("x"))))

    def test_everything(self) -> None:
        """
        In thrum's words.
        """
        asked = request(
            user("x"),
            temperature=0,
            top_p=0.5,
            max_tokens=7,
            stop=["a"],
            seed=3,
            frequency_penalty=1,
            presence_penalty=-1,
            reasoning_effort="low",
            verbosity="high",
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"x": 1}}},
            tools=[{"type": "function", "function": {"name": "a.b"}}],
            tool_choice={"type": "function", "function": {"name": "a.b"}},
            parallel_tool_calls=False,
        )
        offer = offerFrom(asked)
        question = textFromInquiry(asked, "b", offer)
        prompt = promptFrom(asked, question, rid="r", sid="s", offer=offer)
        sampling = json.loads(lineFromTone(prompt))["sampling"]
        self.assertEqual(sampling.pop("responseFormat")["json_schema"]["schema"], {"x": 1})
        self.assertEqual(
            sampling,
            {
                "temperature": 0.0,
                "topP": 0.5,
                "maxTokens": 7,
                "stop": ["a"],
                "seed": 3,
                "frequencyPenalty": 1.0,
                "presencePenalty": -1.0,
                "reasoningEffort": "low",
                "verbosity": "high",
                "toolChoice": {"type": "function", "name": offer.names.wireName("a.b")},
                "parallelToolCalls": False,
            },
        )

    def test_choices(self) -> None:
        """
        The default is not worth a word, and without tools there is no choice.
        """
        tools = [{"type": "function", "function": {"name": "f"}}]
        for choice, said in (("auto", None), ("required", {"toolChoice": "required"}), ("none", None)):
            asked = request(user("x"), tools=tools, tool_choice=choice)
            self.assertEqual(samplingFrom(asked, offerFrom(asked)), said)


class PromptTests(SyncCase):
    """
    L{promptFrom}.
    """

    def test_least(self) -> None:
        """
        The exact tone of a plain question: what is not there is left out.
        """
        asked = request(user("h\u00e9"))
        prompt = promptFrom(asked, textFromInquiry(asked, "b"), rid="r1", sid="s1")
        self.assertEqual(
            lineFromTone(prompt),
            '{"chi":"prompt","rid":"r1","sid":"s1","hive":"openai-server","modelId":"m",'
            '"content":"h\u00e9"}\n'.encode(),
        )

    def test_most(self) -> None:
        """
        Everything that a prompt can carry.
        """
        asked = request(
            system("s"),
            user([{"type": "image_url", "image_url": PNG}]),
            tools=[{"type": "function", "function": {"name": "f"}}],
        )
        offer = offerFrom(asked)
        question = textFromInquiry(asked, "b", offer)
        prompt = promptFrom(
            asked,
            question,
            rid="r",
            sid="s",
            offer=offer,
            paths=["/x/1"],
            cwd="/w",
            allowedTools=("Read",),
            disallowedTools=("Bash",),
        )
        self.assertEqual(
            prompt,
            Prompt(
                rid="r",
                sid="s",
                hive="openai-server",
                modelId="m",
                content="[image attached: image/png, 8 bytes, file /x/1]",
                systemPrompt="s",
                tools=list(offer.definitions),
                attachments=[Attachment(kind="image", mediaType="image/png", data="iVBORw0KGgo=")],
                cwd="/w",
                allowedTools=["Read"],
                disallowedTools=["Bash"],
            ),
        )
        without = promptFrom(asked, question, rid="r", sid="s", sendAttachments=False)
        self.assertEqual((without.attachments, without.tools), (None, None))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.text(st.sampled_from("a\ud83d\ude00\0\u2028\\"), max_size=6), min_size=1, max_size=4))
    def test_everythingCanBeEncoded(self, words: list[str]) -> None:
        """
        Lone surrogates of a client never reach the daemon.
        """
        asked = request(*(system(word) for word in words), *(user(word) for word in words), user=words[0])
        line = lineFromTone(promptFrom(asked, textFromInquiry(asked, "b"), rid="r", sid="s"))
        json.loads(line.decode())
