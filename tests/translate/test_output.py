"""
Tones as events.
"""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.output import Failed, Finished, Output, Reasoning, Text, Usage, WorkerTool
from openai_server.errors import APIError
from openai_server.translate.output import Translation
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import Chunk, Error, Finish, SessionReady, Shown, ToolCall, tonesFromLines
from tests.support import SyncCase

CORPUS = Path(__file__).parent.parent / "corpus"


def text(delta: Any) -> Chunk:
    """
    A piece of text.
    """
    return Chunk(sid="s", chunkType="text_delta", delta=delta)


def reasoning(delta: Any) -> Chunk:
    """
    A piece of reasoning.
    """
    return Chunk(sid="s", chunkType="reasoning_delta", delta=delta)


def part(**members: Any) -> Chunk:
    """
    A chunk of the other dialect.
    """
    return Chunk(sid="s", part=members)


GOOD = Finish(sid="s", finishReason="success", usage={"input_tokens": 1, "output_tokens": 2})


def said(events: list[Output]) -> str:
    """
    The text of events.
    """
    return "".join("".join(event.pieces) for event in events if isinstance(event, Text))


def singly(events: list[Output]) -> list[Output]:
    """
    The events with each piece of text as one of its own.
    """
    return [
        single
        for event in events
        for single in ([Text([piece]) for piece in event.pieces] if isinstance(event, Text) else [event])
    ]


class FeedTests(SyncCase):
    """
    L{Translation.feed}.
    """

    def test_deltasPassUnchanged(self) -> None:
        """
        Unchanged; those that stand together come together.
        """
        events = Translation().feed([text(" a"), reasoning("hm"), text("b\n"), text("\u2028")])
        self.assertEqual(events, [Text([" a"]), Reasoning("hm"), Text(["b\n", "\u2028"])])

    def test_bothDialects(self) -> None:
        """
        The wire specification's own form gives the same events.
        """
        events = Translation().feed([part(type="reasoning", text="r"), part(type="text", text="t", index=3)])
        self.assertEqual(events, [Reasoning("r"), Text(["t"])])

    def test_uselessDeltasAreSkipped(self) -> None:
        """
        Missing, null, not a string, empty: the stream goes on.
        """
        useless = [*map(text, (None, "", 3, ["x"], {"a": 1}, True)), reasoning(None), reasoning("")]
        odd = [part(type="text"), part(type="text", text=4), part(type="image"), part()]
        odd.append(Chunk(sid="s", part=3))
        self.assertEqual(Translation().feed([*useless, *odd, text("x")]), [Text(["x"])])

    def test_startsAndStopsInAnyOrder(self) -> None:
        """
        No state depends on them, nor on what is not known.
        """
        others = [
            Chunk(sid="s", chunkType=kind, delta="HIDDEN", toolName="t")
            for kind in (
                *("text_start", "reasoning_start", "reasoning_end", "content_block_stop", "stream_start"),
                *("tool_input_start", "tool_input_delta", "tool_call", "tool_result", "tool_executed", "new"),
            )
        ]
        shown = [SessionReady(sid="s"), *others, Error(sid="s", callId="c", message="HIDDEN")]
        call = ToolCall(sid="s", callId="c", toolName="f", args={"a": "HIDDEN"})
        events = Translation().feed([*shown, text("x"), call, *shown])
        told = [event for event in events if event != WorkerTool("t", False)]
        self.assertEqual([event for event in told if event != WorkerTool("t", True)], [Text(["x"])])

    def test_textThatLooksLikeSomething(self) -> None:
        """
        Nothing in a text is interpreted.
        """
        for words in ("<|im_end|>", "data: [DONE]\n\n", '{"error":{}}', "<tool_call>{}</tool_call>", "```"):
            self.assertEqual(Translation().feed([text(words)]), [Text([words])])

    def test_oneHugeDelta(self) -> None:
        """
        Eight MiB pass in one event.
        """
        huge = "x" * (8 * 1024 * 1024)
        [event] = Translation().feed([text(huge)])
        assert isinstance(event, Text)
        self.assertIs(event.pieces[0], huge)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.text(st.sampled_from("a \n\u0301\u200d\U0001f468\U0001f469\ufe0f\u202e"), max_size=5)))
    def test_splitsOfEmojiJoinUnchanged(self, pieces: list[str]) -> None:
        """
        No normalising and no trimming, with a stop string and without.
        """
        for stop in ((), ("never",)):
            translation = Translation(stop)
            events = translation.feed([text(piece) for piece in pieces])
            self.assertEqual(said(events + translation.finish(GOOD)), "".join(pieces))

    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(
            st.one_of(
                st.builds(text, st.none() | st.text(max_size=3)),
                st.builds(reasoning, st.none() | st.text(max_size=3)),
                st.sampled_from([SessionReady(sid="s"), Chunk(sid="s", chunkType="content_block_stop")]),
            ),
            max_size=12,
        ),
        st.integers(0, 12),
    )
    def test_batchesDoNotMatter(self, tones: list[Shown], cut: int) -> None:
        """
        However tones are batched, texts and reasoning are what was sent.
        """
        translation = Translation()
        events = translation.feed(tones[:cut]) + translation.feed(tones[cut:])
        self.assertEqual(singly(events), singly(Translation().feed(tones)))
        deltas = [tone for tone in tones if isinstance(tone, Chunk) and tone.delta]
        texts = [tone.delta for tone in deltas if tone.chunkType == "text_delta"]
        self.assertEqual(said(events), "".join(texts))


class ToolLinesTests(SyncCase):
    """
    Tools that the worker runs by itself.
    """

    def test_shownAsReasoning(self) -> None:
        """
        One line each, by setting; never what went in or out.
        """
        tones = [
            Chunk(sid="s", chunkType="tool_input_start", toolName="Bash"),
            Chunk(sid="s", chunkType="tool_input_delta", delta="SECRET"),
            Chunk(sid="s", chunkType="tool_executed", toolName="Bash", callId="w"),
            part(type="tool", toolName="Read"),
            part(type="tool"),
        ]
        self.assertEqual(
            Translation().feed(tones),
            [
                WorkerTool("Bash", False),
                WorkerTool("Bash", True),
                WorkerTool("Read", False),
                WorkerTool("a tool", False),
            ],
        )

    def test_mirrorOfAnOwnCallIsDropped(self) -> None:
        """
        What the client answered is not told to it again; the set may grow.
        """
        own: set[str] = set()
        translation = Translation(ownCalls=own)
        own.add("mine")
        mirror = Chunk(sid="s", chunkType="tool_executed", toolName="f", callId="mine")
        odd = Chunk(sid="s", chunkType="tool_executed", toolName="g", callId=["mine"])
        self.assertEqual(translation.feed([mirror, odd]), [WorkerTool("g", True)])


class StopTests(SyncCase):
    """
    Stop strings.
    """

    def test_acrossChunksAndBlocks(self) -> None:
        """
        The text before comes, then the sign, then nothing more at all.
        """
        translation = Translation(["END"])
        block = Chunk(sid="s", chunkType="content_block_stop")
        tones = [text("a E"), block, text("N"), text("D b"), text("c")]
        self.assertEqual((translation.feed(tones), translation.isStopped), ([Text(["a "])], True))
        self.assertEqual(translation.feed([text("d"), reasoning("e"), part(type="text", text="f")]), [])
        self.assertEqual(translation.finish(GOOD), [Finished("stop", Usage(1, 2))])

    def test_reasoningIsNotSearched(self) -> None:
        """
        Only the answer is.
        """
        events = Translation(["END"]).feed([reasoning("END"), text("x")])
        self.assertEqual(events, [Reasoning("END"), Text(["x"])])

    def test_everyEndAfterAMatchIsAGoodOne(self) -> None:
        """
        The answer was complete already.
        """
        for end in (Lost(Loss.STALLED, True), Error(sid="s", message="x"), Finish(sid="s", exitCode=1)):
            translation = Translation(["x"])
            translation.feed([text("x")])
            self.assertEqual(translation.finish(end), [Finished("stop", None)])

    def test_heldTextComesWithAnyEnd(self) -> None:
        """
        Also when the turn fails, and when calls are handed out.
        """
        for end in (GOOD, Lost(Loss.STALLED, True), Error(sid="s", message="x")):
            translation = Translation(["END"])
            self.assertEqual(translation.feed([text("E")]), [])
            self.assertEqual(translation.finish(end)[0], Text(["E"]))
        translation = Translation(["END"])
        translation.feed([text("E")])
        self.assertEqual((translation.flush(), translation.flush()), ([Text(["E"])], []))

    def test_fenceAndStopTogether(self) -> None:
        """
        The stop string is searched in what the model said; what is left
        loses its fence.
        """
        translation = Translation(["END"], stripFence=True)
        events = translation.feed([text("```json\n{}"), text("\n```EN"), text("D")])
        self.assertEqual((said(events), translation.isStopped), ("{}", True))

    def test_fence(self) -> None:
        """
        The fence goes, whatever chunks it came in.
        """
        translation = Translation(stripFence=True)
        events = translation.feed([text("```js"), text("on\n{}\n"), text("```\n")])
        events += translation.finish(GOOD)
        self.assertEqual(events, [Text(["{}"]), Finished("stop", Usage(1, 2))])


class FinishTests(SyncCase):
    """
    L{Translation.finish}.
    """

    def last(self, end: TurnEnd, *tones: Shown) -> Output:
        """
        The last event of a turn.
        """
        translation = Translation()
        translation.feed(tones)
        return translation.finish(end)[-1]

    def failure(self, end: TurnEnd, *tones: Shown) -> APIError:
        """
        The error of a turn that failed.
        """
        event = self.last(end, *tones)
        assert isinstance(event, Failed), event
        return event.error

    def test_reasons(self) -> None:
        """
        A good end, in OpenAI's words.
        """
        table = {"success": "stop", "max_tokens": "length", "refusal": "content_filter"}
        for reason, expected in table.items():
            event = self.last(Finish(sid="s", finishReason=reason), text("x"))
            self.assertEqual(event, Finished(expected, None))  # type: ignore[arg-type]

    def test_brokenEnds(self) -> None:
        """
        An error reason, and any exit code with whatever reason, is a failed
        turn that must not be run again.
        """
        for end in (
            Finish(sid="s", finishReason="error"),
            Finish(sid="s", finishReason="error_during_execution"),
            Finish(sid="s", finishReason="cancelled"),
            Finish(sid="s", finishReason="stop", exitCode=0),
            Finish(sid="s", finishReason="success", exitCode="?"),
            Finish(sid="s", finishReason=3),
        ):
            error = self.failure(end, text("x"))
            self.assertEqual((error.name, error.mayRetry), ("worker_error", False))

    def test_turnThatGoesOn(self) -> None:
        """
        After a tool's result even the first tone may say that the model
        refused: its worker has acted, so it must not be run again.
        """
        limited = Error(message="API Error: 429 rate limit")
        for seen in (False, True):
            [event] = Translation(seen=seen).finish(limited)
            assert isinstance(event, Failed)
            self.assertEqual((event.error.name, event.error.mayRetry), ("rate_limit_exceeded", not seen))

    def test_silentSuccess(self) -> None:
        """
        A model may say nothing; an answer that was lost looks the same but
        for its usage.
        """
        zero = Finish(sid="s", finishReason="success", usage={"input_tokens": 0, "output_tokens": 0})
        self.assertEqual(self.last(GOOD), Finished("stop", Usage(1, 2)))
        self.assertEqual(self.last(Finish(sid="s", finishReason="success")), Finished("stop", None))
        self.assertEqual(self.failure(zero).name, "worker_error")
        self.assertEqual(self.failure(zero, reasoning("hm")).name, "worker_error")
        self.assertEqual(self.last(zero, text("x")), Finished("stop", Usage()))
        self.assertEqual(self.last(zero, ToolCall(sid="s", callId="c")), Finished("stop", Usage()))

    def test_oddUsage(self) -> None:
        """
        Garbage never fails an answer.
        """
        for usage in (None, "x", [], {"input_tokens": -1}, {"output_tokens": 2**90}, {"input_tokens": "a"}):
            self.assertIsInstance(self.last(Finish(sid="s", usage=usage), text("x")), Finished)

    def test_errorWithAFinishReason(self) -> None:
        """
        Some of the CLI's words mean an end, not a failure; one of them only
        after text.
        """
        for words, reason in (
            ("API Error: exceeded the 32000 output token maximum", "length"),
            ("Claude is unable to respond to this request, which appears to violate x", "content_filter"),
        ):
            for tones in ((), (text("x"),)):
                event = self.last(Error(sid="s", message=words), *tones)
                self.assertEqual(event, Finished(reason, None))  # type: ignore[arg-type]
        words = "The model has reached its context window limit"
        window = Error(sid="s", message=words, usage={"output_tokens": 1})
        self.assertEqual(self.last(window, text("x")), Finished("length", Usage(0, 1)))
        self.assertEqual(self.failure(window).name, "context_length_exceeded")

    def test_errorKnowsWhetherAnythingWasSeen(self) -> None:
        """
        Chunks and calls count, C{session-ready} does not.
        """
        busy = Error(sid="s", message="Overloaded")
        self.assertTrue(self.failure(busy, SessionReady(sid="s")).mayRetry)
        self.assertFalse(self.failure(busy, text("x")).mayRetry)
        self.assertFalse(self.failure(busy, reasoning("hm")).mayRetry)
        self.assertFalse(self.failure(busy, ToolCall(sid="s", callId="c")).mayRetry)

    def test_lost(self) -> None:
        """
        Silence is a failure.
        """
        self.assertEqual(self.failure(Lost(Loss.DAEMON_LOST, True), text("x")).name, "daemon_lost")

    def test_anyOrderOfAShortTurn(self) -> None:
        """
        C{session-ready} before, between, after or twice: the answer is the
        same.
        """
        ready = SessionReady(sid="s")
        for order in permutations([ready, ready, Chunk(sid="s", chunkType="text_start"), text("x")]):
            self.assertEqual(Translation().feed(order), [Text(["x"])])


class CorpusTests(SyncCase):
    """
    Tones recorded from humd 0.31.18.
    """

    def answers(self, name: str) -> dict[str, tuple[str, str, Output | None]]:
        """
        Text, reasoning and last event of each sid of a recorded scenario.
        """
        lines = [json.loads(line) for line in (CORPUS / f"{name}.jsonl").read_text().splitlines()]
        wire = b"\n".join(json.dumps(line["tone"]).encode() for line in lines if line.get("dir") == "in")
        translations: dict[str, Translation] = {}
        found: dict[str, list[Output]] = {}
        for tone in tonesFromLines(wire, {}):
            sid = getattr(tone, "sid", None)
            if sid is None:
                continue
            translation = translations.setdefault(sid, Translation())
            events = found.setdefault(sid, [])
            if isinstance(tone, Finish) or (isinstance(tone, Error) and tone.callId is None):
                events += translation.finish(tone)
            else:
                events += translation.feed([tone])  # type: ignore[list-item]
        return {sid: self.summary(events) for sid, events in found.items()}

    @staticmethod
    def summary(events: list[Output]) -> tuple[str, str, Output | None]:
        """
        Text, reasoning, and the last event.
        """
        thought = "".join(event.text for event in events if isinstance(event, Reasoning))
        return said(events), thought, events[-1] if events else None

    def test_reasoning(self) -> None:
        """
        Blocks join without anything between them.
        """
        [(answer, thought, last)] = self.answers("reasoning").values()
        self.assertEqual((answer, thought), ("one twosecond block", "hmm hmm"))
        assert isinstance(last, Finished)
        self.assertEqual(last.reason, "stop")

    def test_cliDies(self) -> None:
        """
        Every turn whose process ended without a result has failed.
        """
        for _, _, last in self.answers("cli_dies").values():
            assert isinstance(last, Failed)
            self.assertEqual(last.error.name, "worker_error")

    def test_resultErrors(self) -> None:
        """
        Every error tone is a failure.
        """
        lasts = [last for _, _, last in self.answers("result_errors").values()]
        self.assertTrue(lasts)
        self.assertTrue(all(isinstance(last, Failed) for last in lasts), lasts)
