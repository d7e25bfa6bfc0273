"""
The benchmarks' pure parts: a figure is worth nothing if a wrong answer would
have passed, or the arithmetic is off. What is measured is not tested here.
"""

from __future__ import annotations

import io
import json
import socket

from twisted.internet.testing import StringTransport

from benchmarks import __main__, relay, scenarios
from benchmarks.daemon import BREATH, Bee
from benchmarks.figures import FIGURES, RELAY, SERVER, VOLATILE, percentile, summary, table, written
from benchmarks.load import Exchange, LoadError, ask, askResponse, converse, textOfStream, unchunked
from benchmarks.question import Question, fresh, questionFromPrompt
from tests.support import SyncCase

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(text: str | None, reason: str | None = None) -> bytes:
    """
    One event of a chat stream.
    """
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def chunked(*pieces: bytes) -> bytes:
    """
    A whole chunked body.
    """
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class FigureTests(SyncCase):
    """
    From rounds to a table.
    """

    def test_percentile(self) -> None:
        """
        A percentile is one of the values, the largest at 100.
        """
        for values, percent, expected in [
            ([5.0], 50, 5.0),
            ([3.0, 1.0, 2.0], 50, 2.0),
            ([4.0, 3.0, 2.0, 1.0], 50, 2.0),
            ([1.0, 2.0], 100, 2.0),
            ([1.0, 2.0], 0, 1.0),
            (list(range(1, 101)), 99, 99),
            (list(range(1, 1001)), 99.9, 999),
        ]:
            with self.subTest(values=len(values), percent=percent):
                self.assertEqual(percentile(values, percent), expected)

    def test_written(self) -> None:
        """
        Three digits count, and none before the point is lost.
        """
        for value, expected in [
            (None, "-"),
            (0.0, "0"),
            (0.1234, "0.123"),
            (0.00001234, "0.0000"),
            (1.6, "1.60"),
            (42.42, "42.4"),
            (999.9, "1,000"),
            (745615.4, "745,615"),
        ]:
            with self.subTest(value=value):
                self.assertEqual(written(value), expected)

    def test_summary(self) -> None:
        """
        The medians of the rounds, and the ratio of the medians.
        """
        rounds = {SERVER: {"plain cpu": [9.0, 2.0, 3.0]}, RELAY: {"plain cpu": [1.0, 2.0, 9.0]}}
        [(name, row)] = summary(rounds).items()
        self.assertEqual(name, "plain cpu")
        self.assertEqual((row[SERVER], row[RELAY], row["ratio"], row["aim"]), (3.0, 2.0, 1.5, 2.0))

    def test_table(self) -> None:
        """
        One line for each figure that was measured, its columns aligned, and
        whether an aim is met.
        """
        rounds = {
            SERVER: {"plain cpu": [5.0], "first p50": [12.0], "flood 1 cpu": [0.16]},
            RELAY: {"plain cpu": [2.0], "flood 1 cpu": [0.1]},
        }
        head, flood, first, plain = table(summary(rounds)).splitlines()
        self.assertTrue(flood.endswith("1.60x  <= 1.60x met"), flood)
        self.assertTrue(plain.endswith("2.50x  <= 2.00x missed"), plain)
        self.assertTrue(first.endswith("12.0      -      -"), first)
        self.assertEqual(head.index("server") + len("server"), first.index("12.0") + len("12.0"))

    def test_besideItself(self) -> None:
        """
        What the relay does not speak is held against the server's own chat.
        """
        rounds = {SERVER: {"flood 16 cpu": [2.0, 4.0, 3.0], "responses flood 16 cpu": [3.0, 3.6]}}
        row = summary(rounds)["responses flood 16 cpu"]
        self.assertAlmostEqual(row["ratio"], 1.1)
        del rounds[SERVER]["flood 16 cpu"]
        self.assertIsNone(summary(rounds)["responses flood 16 cpu"]["ratio"])

    def test_besideTheServerWithoutAStore(self) -> None:
        """
        What the store costs is held against the same server with none, and
        nobody else is asked.
        """
        rounds = {SERVER: {"fresh cpu": [2.2]}, VOLATILE: {"fresh cpu": [2.0]}, RELAY: {"fresh cpu": [9.0]}}
        row = summary(rounds)["fresh cpu"]
        self.assertAlmostEqual(row["ratio"], 1.1)
        targets = (SERVER, RELAY, VOLATILE)
        for name, wanted in (
            ("stored", (SERVER, VOLATILE)),
            ("responses", (SERVER,)),
            ("plain", (SERVER, RELAY)),
            ("warm-up", targets),
        ):
            with self.subTest(name=name):
                self.assertEqual(tuple(each for each in targets if scenarios.isFor(each, name)), wanted)

    def test_nothingMeasured(self) -> None:
        """
        Where the system tells nothing there is no figure, and no failure.
        """
        self.assertEqual(summary({SERVER: {}, RELAY: {}}), {})

    def test_namesAreUnique(self) -> None:
        """
        No figure hides another.
        """
        self.assertEqual(len({figure.name for figure in FIGURES}), len(FIGURES))


class QuestionTests(SyncCase):
    """
    The oracle.
    """

    def test_roundTrip(self) -> None:
        """
        The daemon reads out of a prompt what the load wrote into it.
        """
        for question in [Question("a", 5), Question("b", 7, 50), Question("c", 2, isHeld=True)]:
            prompt = json.dumps({"chi": "prompt", "content": question.text + "xxx"}).encode()
            self.assertEqual(questionFromPrompt(prompt), question)
        self.assertRaises(ValueError, questionFromPrompt, b"{}")

    def test_onlyTheWholeAnswer(self) -> None:
        """
        A missing, doubled, foreign or swapped token is found.
        """
        question, other = fresh(3), fresh(3)
        first, second, third = map(question.delta, range(3))
        self.assertTrue(question.isAnsweredBy(first + second + third))
        self.assertTrue(question.isAnsweredBy(first + question.delta(1, 123456) + third))
        for wrong in [
            "",
            first + second,
            first + third + second,
            first + second + second + third,
            first + other.delta(1) + third,
            first + second + third + " ",
        ]:
            with self.subTest(wrong=wrong):
                self.assertFalse(question.isAnsweredBy(wrong))

    def test_conversation(self) -> None:
        """
        Each request shows all that was said before it, as the daemon says it.
        """
        first, second = Question("a", 2), Question("b", 1)
        requests = [bytes(each.unsent) for each in converse([first, second])]
        bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]
        said = [[message["content"] for message in body["messages"]] for body in bodies]
        self.assertEqual(said[0], [first.text])
        self.assertEqual((said[1][0], said[1][2]), (first.text, second.text))
        self.assertTrue(first.isAnsweredBy(said[1][1]))


class LoadTests(SyncCase):
    """
    The load's reading of answers.
    """

    def answered(self, *pieces: bytes) -> tuple[Exchange, Question]:
        """
        An exchange whose answer has come in these pieces.
        """
        question = fresh(2)
        exchange = ask(question, isStream=True)
        for number, piece in enumerate(pieces):
            exchange.receive(float(number), piece)
        return exchange, question

    def test_endIsSeenInAnySplit(self) -> None:
        """
        The end of a chunked answer is seen wherever the reads cut it.
        """
        whole = HEAD + chunked(b"data: [DONE]\n\n")
        for cut in range(1, len(whole)):
            exchange, _ = self.answered(whole[:cut])
            self.assertFalse(exchange.isDone, cut)
            exchange.receive(1.0, whole[cut:])
            self.assertTrue(exchange.isDone, cut)

    def test_endByLength(self) -> None:
        """
        The end of an answer with a length is seen.
        """
        exchange, _ = self.answered(b"HTTP/1.1 200 OK\r\ncontent-Length: 4\r\n", b"\r\nab")
        self.assertFalse(exchange.isDone)
        exchange.receive(1.0, b"cd")
        self.assertTrue(exchange.isDone)

    def test_check(self) -> None:
        """
        The answer to the question passes; a cut, failed or foreign one does not.
        """
        _, question = self.answered()
        texts = [event(question.delta(number)) for number in range(2)]
        end = event(None, "stop") + b"data: [DONE]\n\n"
        for answer, isGood in [
            (HEAD + chunked(*texts, end), True),
            (HEAD + chunked(b"".join(texts) + end), True),
            (HEAD + chunked(*texts), False),
            (HEAD + chunked(*texts, b"data: [DONE]\n\n"), False),
            (HEAD + chunked(texts[0], end), False),
            (HEAD + chunked(*texts, end, end), False),
            (HEAD + chunked(*texts, b": note\n\n", end), False),
            (HEAD + b"ff\r\n", False),
            (HEAD.replace(b"200", b"500") + chunked(*texts, end), False),
        ]:
            with self.subTest(answer=answer):
                exchange = ask(question, isStream=True)
                exchange.receive(0.0, answer)
                if isGood:
                    exchange.check()
                else:
                    self.assertRaises(LoadError, exchange.check)

    def test_unchunked(self) -> None:
        """
        Only the content is left.
        """
        self.assertEqual(unchunked(chunked(b"a\r\n", b"b" * 300)), b"a\r\n" + b"b" * 300)

    def test_cutStream(self) -> None:
        """
        A stream without its C{[DONE]} has no text.
        """
        self.assertRaises(LoadError, textOfStream, event("a") + event(None, "stop"))

    def test_responses(self) -> None:
        """
        A stream of the Responses API has its text, unless it was cut, misses
        an event or did not complete.
        """
        question = fresh(2)

        def stream(*numbers: int, last: str = "completed", done: bytes = b"data: [DONE]\n\n") -> bytes:
            kinds = ["created", *["output_text.delta"] * (len(numbers) - 2), last]
            texts = ["", question.delta(0), question.delta(1), ""]
            told = [
                {"type": f"response.{kind}", "delta": text, "sequence_number": number}
                for kind, text, number in zip(kinds, texts, numbers, strict=True)
            ]
            return b"".join(
                [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in told] + [done]
            )

        for body, isGood in [
            (stream(0, 1, 2, 3), True),
            (stream(0, 1, 3, 4), False),
            (stream(0, 1, 2, 3, last="incomplete"), False),
            (stream(0, 1, 2, 3, done=b""), False),
        ]:
            exchange = askResponse(question)
            exchange.receive(1.0, HEAD + chunked(body))
            if isGood:
                exchange.check()
            else:
                self.assertRaises(LoadError, exchange.check)

    def test_timesOfTokens(self) -> None:
        """
        Each paced token has its time, also one that two reads cut.
        """
        question = fresh(2)
        whole = "".join(question.delta(number, 1_000_000 * (number + 1)) for number in range(2)).encode()
        for cut in range(len(whole)):
            exchange = ask(question, isStream=True)
            exchange.receive(3.0, whole[:cut])
            exchange.receive(4.0, whole[cut:])
            self.assertEqual([sent for sent, _ in exchange.arrivals()], [1.0, 2.0], cut)

    def test_firstToken(self) -> None:
        """
        The time to the first token is that of the read that completed its tag.
        """
        exchange, question = self.answered(HEAD)
        self.assertRaises(LoadError, exchange.firstTokenAfter)
        exchange.receive(7.0, question.delta(0)[:4].encode())
        exchange.receive(8.0, question.delta(0)[4:].encode())
        self.assertEqual(exchange.firstTokenAfter(), 8.0)


class DaemonAndRelayTests(SyncCase):
    """
    The relay in front of the daemon, without their processes.
    """

    def setUp(self) -> None:
        super().setUp()
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.far = theirs
        self.bee = Bee(ours)
        self.thrum = relay.Thrum()
        self.transport = StringTransport()
        self.thrum.makeConnection(self.transport)

    def pump(self) -> None:
        """
        Let everything get where it is going.
        """
        self.far.sendall(self.transport.value())
        self.transport.clear()
        self.paced = list(self.bee.receive())
        while self.bee.hasMore:
            self.bee.send()
            self.thrum.dataReceived(self.far.recv(1 << 20))

    def test_breaths(self) -> None:
        """
        The daemon breathes on connect and on a hello.
        """
        self.far.sendall(self.transport.value())
        list(self.bee.receive())
        self.bee.send()
        self.assertEqual(self.far.recv(1 << 20), BREATH * 2)

    def test_stream(self) -> None:
        """
        A question comes back through the relay as the stream that the load
        takes for its answer.
        """
        question, request = fresh(20), FakeRequest()
        body = relay.Body("bench", [relay.Message(question.text)], stream=True)
        self.thrum.ask(body, request)
        self.pump()
        self.assertTrue(request.isFinished)
        self.assertTrue(question.isAnsweredBy(textOfStream(request.written.getvalue())))

    def test_whole(self) -> None:
        """
        The same in one body.
        """
        question, request = fresh(20), FakeRequest()
        self.thrum.ask(relay.Body("bench", [relay.Message(question.text)]), request)
        self.pump()
        answer = json.loads(request.written.getvalue())
        self.assertTrue(question.isAnsweredBy(answer["choices"][0]["message"]["content"]))

    def test_heldUntilReleased(self) -> None:
        """
        A held stream goes on after the question that releases it.
        """
        question, request = fresh(2, isHeld=True), FakeRequest()
        self.thrum.ask(relay.Body("bench", [relay.Message(question.text)], stream=True), request)
        self.pump()
        self.assertIn(question.tag.encode(), request.written.getvalue())
        self.assertFalse(request.isFinished)
        self.thrum.ask(relay.Body("bench", [relay.Message(Question("r", 0).text)]), FakeRequest())
        self.pump()
        self.assertTrue(question.isAnsweredBy(textOfStream(request.written.getvalue())))

    def test_paced(self) -> None:
        """
        A paced question is left to the daemon's clock, a token at a time.
        """
        question, request = fresh(2, rate=50), FakeRequest()
        self.thrum.ask(relay.Body("bench", [relay.Message(question.text)], stream=True), request)
        self.pump()
        [turn] = self.paced
        for _ in range(2):
            self.bee.sendToken(turn)
            self.thrum.dataReceived(self.far.recv(1 << 20))
        self.assertTrue(question.isAnsweredBy(textOfStream(request.written.getvalue())))


class FakeRequest:
    """
    What the relay needs of a request.
    """

    def __init__(self) -> None:
        self.written = io.BytesIO()
        self.isFinished = False

    def setHeader(self, name: bytes, value: bytes) -> None:
        """
        Not looked at.
        """

    def notifyFinish(self) -> FakeRequest:
        """
        Never fires.
        """
        return self

    def addErrback(self, callable: object) -> None:
        """
        Never called.
        """

    def write(self, data: bytes) -> None:
        """
        Collect.
        """
        self.written.write(data)

    def finish(self) -> None:
        """
        Note it.
        """
        self.isFinished = True


class ProgramTests(SyncCase):
    """
    The command line.
    """

    def test_everyScenarioCanBeNamed(self) -> None:
        """
        C{--only} takes each scenario, and takes it alone.
        """
        for name in scenarios.EACH:
            options = __main__.parsed(["--quick", "--only", name])
            self.assertEqual([each for each in scenarios.EACH if __main__._isWanted(options, each)], [name])
