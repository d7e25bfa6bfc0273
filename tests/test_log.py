"""
Tests for L{openai_server.log}.
"""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python import log as legacylog
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from openai_server import log
from openai_server.accounts.keys import newKey, shownOf
from openai_server.errors import APIError
from openai_server.log import FIELDS, LONGEST_FIELD, LONGEST_MESSAGE, EventLogger, JSONLog
from tests.support import RecordedOutput, SyncCase

#: What must never stand in a line as it is.
NASTY = "a\r\nb\x1b[31m\x00\u2028\u2029\x85{log_source}{0}%s%(x)s\x7f\ud800\u202e"

CANARY = "sk-canary-0123456789"


class LogCase(SyncCase):
    """
    A logger whose events end in a list of lines.
    """

    def setUp(self) -> None:
        super().setUp()
        self.output = RecordedOutput()
        self.observer = JSONLog(lambda: self.output, [CANARY])

    def logger(self, namespace: str = "openai_server.web.site") -> Logger:
        """
        A logger that writes through the observer alone.
        """
        return Logger(namespace, observer=LogPublisher(self.observer))

    def events(self) -> list[dict[str, Any]]:
        """
        All lines so far, each checked to be one line of plain JSON.
        """
        text = self.output.getvalue()
        self.assertEqual([c for c in text if c != "\n" and unicodedata.category(c).startswith("C")], [])
        self.assertTrue(text.isascii())
        self.assertEqual(text.count("\n"), len(text.splitlines()))
        self.assertEqual(len(self.output.writes), text.count("\n"))
        return [json.loads(line) for line in text.splitlines()]


class LineTests(LogCase):
    """
    One event is one line of JSON.
    """

    def test_interface(self) -> None:
        """
        It is an observer as Twisted wants them.
        """
        verifyObject(ILogObserver, self.observer)

    def test_least(self) -> None:
        """
        Less can be wanted, at any time: of whom it comes does not matter then.
        """
        for least, levels in (
            (LogLevel.info, ["info", "warn", "error", "warn", "error"]),
            (LogLevel.warn, ["warn", "error", "warn", "error"]),
            (LogLevel.error, ["error", "error"]),
        ):
            self.output = RecordedOutput()
            self.observer = JSONLog(lambda: self.output)
            self.observer.least = least
            for namespace in ("openai_server.web.site", "twisted.internet"):
                logger = self.logger(namespace)
                for say in (logger.debug, logger.info, logger.warn, logger.error):
                    say("said")
            self.assertEqual([event["level"] for event in self.events()], levels)

    def test_requestLine(self) -> None:
        """
        A request's fields come out with their types; others stay inside.
        """
        self.logger().info(
            "{method} {route} {status} {end}",
            requestId="req_1",
            method="POST",
            route="/v1/chat/completions",
            status=200,
            end="ok",
            ms=12.34567,
            bytes=99,
            stream=True,
            model="echo",
            session=None,
            prompt="Tell me a secret",
            authorization="Bearer x",
        )
        (event,) = self.events()
        self.assertRegex(event.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        wanted = {
            "level": "info",
            "from": "openai_server.web.site",
            "message": "POST /v1/chat/completions 200 ok",
            "requestId": "req_1",
            "method": "POST",
            "route": "/v1/chat/completions",
            "status": 200,
            "end": "ok",
            "ms": 12.346,
            "bytes": 99,
            "stream": True,
            "model": "echo",
        }
        self.assertEqual(event, wanted)

    def test_nastyTextInEveryField(self) -> None:
        """
        Control characters, line ends, escapes and format signs stay text, in
        each field and in the message.
        """
        for name in FIELDS:
            self.logger().info("{" + name + "}", **{name: NASTY})
        events = self.events()
        self.assertEqual(len(events), len(FIELDS))
        for name, event in zip(FIELDS, events, strict=True):
            self.assertEqual(event[name], NASTY)
            self.assertEqual(event["message"], NASTY)

    def test_eachControlCharacterIsEscaped(self) -> None:
        """
        Also where all the rest is ASCII.
        """
        for code in (*range(32), 127):
            self.logger().info("x", model=f"a{chr(code)}b")
        self.assertEqual([event["model"][1] for event in self.events()], [*map(chr, range(32)), "\x7f"])

    def test_lengthsAreBounded(self) -> None:
        """
        Nobody fills the disk with one name.
        """
        self.logger().info("{model}", model="m" * 100_000)
        (event,) = self.events()
        self.assertEqual(event["model"], "m" * (LONGEST_FIELD - 3) + "...")
        self.assertEqual(len(event["message"]), LONGEST_MESSAGE)

    def test_whatJSONDoesNotHave(self) -> None:
        """
        Such values are named by their type; their text may hold anything.
        """
        self.logger().info("x", ms=float("nan"), bytes=float("inf"), model=object(), route=[CANARY])
        (event,) = self.events()
        self.assertEqual(
            (event["ms"], event["bytes"], event["model"], event["route"]),
            ("float", "float", "object", "list"),
        )

    def test_formatThatFails(self) -> None:
        """
        Such an event is a line too.
        """
        self.logger().info("{missing} {", model="echo")
        self.assertEqual(self.events()[0]["model"], "echo")

    def test_formatThatCalls(self) -> None:
        """
        Twisted's formats may call what they name.
        """
        self.logger("twisted.internet").warn("{count()} of {all}", count=lambda: 3, all=5)
        self.assertEqual(self.events()[0]["message"], "3 of 5")

    def test_numberOfAnySize(self) -> None:
        """
        Also one that needs more than 64 bits.
        """
        self.logger().info("x", bytes=2**70)
        self.assertEqual(self.events()[0]["bytes"], 2**70)

    @settings(deadline=None, max_examples=100)
    @given(st.text(), st.text())
    def test_anyTextIsOneLine(self, model: str, message: str) -> None:
        """
        Whatever it is.
        """
        output = RecordedOutput()
        JSONLog(lambda: output)(
            {
                "log_namespace": "openai_server",
                "log_level": LogLevel.info,
                "log_format": "{text}",
                "text": message,
                "model": model,
            }
        )
        (line,) = output.getvalue().splitlines()
        self.assertTrue(line.isascii() and line.isprintable())
        if len(model) < LONGEST_FIELD:
            self.assertEqual(json.loads(line)["model"], model)


class FakeLoop:
    """
    A reactor of which each turn is ended by hand.
    """

    def __init__(self) -> None:
        self.running = True
        self.later: list[Callable[[], object]] = []
        self.atStop: list[Callable[[], object]] = []

    def callLater(self, delay: float, callable: Callable[[], object], /) -> object:
        self.later.append(callable)
        return None

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Callable[[], object], /) -> object:
        self.atStop.append(callable)
        return None

    def turn(self) -> None:
        """
        End this turn.
        """
        later, self.later = self.later, []
        for call in later:
            call()


class WritingTests(LogCase):
    """
    When lines are written.
    """

    def setUp(self) -> None:
        super().setUp()
        self.loop = FakeLoop()
        self.observer = JSONLog(lambda: self.output, [CANARY], self.loop)
        self.log = self.logger()

    def messages(self) -> list[str]:
        """
        What was written so far.
        """
        return [json.loads(line)["message"] for line in self.output.getvalue().splitlines()]

    def test_onceATurn(self) -> None:
        """
        All lines of a turn of the reactor go out in one write, with no secret.
        """
        for number in range(3):
            self.log.info("{number} {key}", number=number, key=CANARY)
        self.assertEqual(self.messages(), [])
        self.loop.turn()
        self.assertEqual(self.messages(), ["0 ********", "1 ********", "2 ********"])
        self.assertEqual(len(self.output.writes), 1)
        self.log.info("next")
        self.loop.turn()
        self.assertEqual((self.messages()[-1], len(self.output.writes)), ("next", 2))

    def test_errorsAtOnce(self) -> None:
        """
        With all before them, and nothing twice.
        """
        self.log.info("a")
        self.log.warn("b")
        self.log.error("c")
        self.assertEqual(self.messages(), ["a", "b", "c"])
        self.loop.turn()
        self.assertEqual(len(self.output.writes), 1)

    def test_muchAtOnce(self) -> None:
        """
        No more than 64 KiB waits.
        """
        while not self.output.writes:
            self.log.info("x" * 1000)
        self.assertLess(len(self.output.getvalue()), log.MOST_WAITING + 2000)

    def test_atTheStop(self) -> None:
        """
        What waits is written when the reactor stops, and what comes later at once.
        """
        self.log.info("a")
        self.loop.running = False
        (flush,) = self.loop.atStop
        flush()
        self.assertEqual(self.messages(), ["a"])
        self.log.info("b")
        self.assertEqual(self.messages(), ["a", "b"])

    def test_forward(self) -> None:
        """
        Lines of another process come behind those that wait, as they are.
        """
        self.log.info("a")
        self.observer.forward(b'{"message":"b"}\n')
        self.log.info("c")
        self.loop.turn()
        self.assertEqual(self.messages(), ["a", "b", "c"])

    def test_beforeTheStart(self) -> None:
        """
        Nothing waits for a reactor that may never run.
        """
        self.loop.running = False
        self.log.info("a")
        self.assertEqual(self.messages(), ["a"])
        self.assertEqual((self.loop.later, self.loop.atStop), ([], []))


class EventLoggerTests(LogCase):
    """
    The quick logger.
    """

    def test_sameEventAsTwisteds(self) -> None:
        """
        Every observer is given what Twisted's logger gives, at nearly the same time.
        """
        events: list[Any] = []
        for kind in (Logger, EventLogger):
            kind("openai_server.x", observer=events.append).info("{a}", a=1, model="echo")  # type: ignore[arg-type]
        for event in events:
            self.assertLess(abs(event.pop("log_time") - time.time()), 60)
            event.pop("log_logger")
        self.assertEqual(events[0], events[1])

    def test_namespaceIsTheModules(self) -> None:
        """
        As with Twisted's.
        """
        self.assertEqual(EventLogger().namespace, __name__)


class SelectionTests(LogCase):
    """
    What is for the log, and what is not.
    """

    def test_ownDetailsAndOthersInformationAreLeftOut(self) -> None:
        """
        Twisted tells of each factory and each request; that is not ours to
        repeat.
        """
        self.logger().debug("detail")
        self.logger("twisted.web").info("GET /?key={key}", key=CANARY)
        self.logger("openai_server_of_somebody_else").info("x")
        self.assertEqual(self.events(), [])

    def test_othersWarningsAreWritten(self) -> None:
        """
        So are their errors.
        """
        self.logger("twisted.internet").warn("odd")
        self.logger("twisted.internet").error("broken")
        self.assertEqual([event["level"] for event in self.events()], ["warn", "error"])

    def test_eventWithoutAnything(self) -> None:
        """
        An event that says neither level nor sender is nobody's.
        """
        self.observer({})
        self.assertEqual(self.events(), [])


class SecretTests(LogCase):
    """
    Secrets stay out, wherever they come up.
    """

    def test_keyIsBlankedOut(self) -> None:
        """
        In a message, in a field, in somebody else's words.
        """
        self.logger().info("key {key}", key=CANARY, model=CANARY)
        self.logger("twisted.web").error(f"Bearer {CANARY}")
        self.assertNotIn(CANARY, self.output.getvalue())
        self.assertEqual([event["message"] for event in self.events()], ["key ********", "Bearer ********"])

    def test_furtherKey(self) -> None:
        """
        Is blanked out too, as a whole, although the first one begins it.
        """
        self.observer.hide(CANARY + "-longer")
        self.logger().info("{a} {b}", a=CANARY + "-longer", b=CANARY)
        self.assertEqual(self.events()[0]["message"], "******** ********")

    def test_keyWithQuotes(self) -> None:
        """
        As JSON writes it.
        """
        key = 'k"e\\y-\u00e9-long'
        self.observer = JSONLog(lambda: self.output, [key])
        self.logger().info("{key}", key=key)
        self.assertEqual(self.events()[0]["message"], "********")

    def test_keysOfAccounts(self) -> None:
        """
        Are known by what they look like; what is shown of them stays.
        """
        key = newKey()
        self.logger().info("{a} {b}...", a=key, b=shownOf(key))
        self.assertEqual(self.events()[0]["message"], f"sk-hum-******** {shownOf(key)}...")
        self.assertNotIn(key[11:], self.output.getvalue())

    def test_shortKeyIsLeftAlone(self) -> None:
        """
        Blanking out one letter would destroy every line.
        """
        self.observer = JSONLog(lambda: self.output, ["a", ""])
        self.logger().info("a banana")
        self.assertEqual(self.events()[0]["message"], "a banana")


class FailureTests(LogCase):
    """
    Exceptions are known by their class and their way, not by their text.
    """

    def passed(self, error: Exception | None = None) -> Failure:
        """
        A failure that went through this function.
        """
        try:
            raise error or KeyError(CANARY + " and the user's prompt")
        except Exception:
            return Failure()

    def test_bug(self) -> None:
        """
        Class and places; neither the text nor the source nor the locals.
        """
        self.logger().failure("request {requestId} failed", self.passed(), requestId="req_1")
        (event,) = self.events()
        self.assertEqual(event["failure"], "builtins.KeyError")
        self.assertRegex(event["places"][-1], r"tests/test_log\.py:\d+ passed$")
        self.assertEqual(event["requestId"], "req_1")
        self.assertNotIn("prompt", self.output.getvalue())

    def test_whatIsNoBugHasNoPlaces(self) -> None:
        """
        Below critical the class says enough.
        """
        self.logger().failure("gone", self.passed(), LogLevel.warn)
        (event,) = self.events()
        self.assertEqual(event["failure"], "builtins.KeyError")
        self.assertNotIn("places", event)

    def test_ownExceptionsAreTrusted(self) -> None:
        """
        Their texts are written with the log in mind.
        """
        self.logger().failure("x", self.passed(APIError("bad_request", "No.")))
        self.assertEqual(self.events()[0]["failure"], "openai_server.errors.APIError: No.")

    def test_legacyFailure(self) -> None:
        """
        V7: the text of such an event is the traceback: only its reason, its
        class and its places are taken.
        """
        publisher = legacylog.LogPublisher(LogPublisher(), LogPublisher(self.observer))
        for why in ("because", None):
            publisher.msg(failure=self.passed(), why=why, isError=1)
        self.assertEqual([event["message"] for event in self.events()], ["because", "failure"])
        for event in self.events():
            self.assertEqual(event["failure"], "builtins.KeyError")
            self.assertRegex(event["places"][-1], r"tests/test_log\.py:\d+ passed$")

    def test_exceptionInAMessage(self) -> None:
        """
        V7: other people's messages name it, and do not quote it.
        """
        log, error = self.logger("twisted.logger"), ValueError(CANARY * 9)
        log.failure("observer failed: {log_failure}", self.passed())
        log.error("it is {error} {again!r}", error=error, again=Failure(error))
        log.warn("old {warning}", warning=DeprecationWarning("spelling"))
        self.logger().error("mine is {error}", error=APIError("bad_request", "No."))
        messages = [event["message"] for event in self.events()]
        self.assertEqual(
            messages,
            [
                "observer failed: builtins.KeyError",
                "it is builtins.ValueError 'builtins.ValueError'",
                "old spelling",
                "mine is openai_server.errors.APIError: No.",
            ],
        )

    def test_messageThatCannotBeMade(self) -> None:
        """
        V7: its pattern is written, and not the whole event.
        """
        log = self.logger("twisted.web")
        log.error("got {error.args[0]} {missing}", error=ValueError("the prompt"), prompt="the prompt")
        log.error("{", prompt="the prompt")
        event = {"log_namespace": "x", "log_level": LogLevel.error, "log_format": 3}
        self.observer({**event, "prompt": "the prompt"})
        messages = [event["message"] for event in self.events()]
        self.assertEqual(messages, ["got {error.args[0]} {missing}", "{", "3"])

    def test_failureWithoutATrace(self) -> None:
        """
        There is nowhere to point at.
        """
        self.logger().failure("x", Failure(ValueError("secret")))
        self.assertEqual(self.events()[0]["places"], [])


class OutputTests(LogCase):
    """
    Where the lines go.
    """

    def test_openedAtTheFirstEvent(self) -> None:
        """
        The observer is made before the process knows that it will run.
        """
        opened: list[str] = []

        def openOutput() -> RecordedOutput:
            opened.append("now")
            return self.output

        self.observer = JSONLog(openOutput)
        self.assertEqual(opened, [])
        self.logger().info("a")
        self.logger().info("b")
        self.assertEqual(opened, ["now"])

    def test_outputWithoutRoom(self) -> None:
        """
        V16: lines are kept, then dropped and counted.
        """
        self.output.hasRoom = False
        for number in range(1500):
            self.logger().info("{number} {fill}", number=number, fill="x" * 980)
        self.output.hasRoom = True
        for message in ("first", "last"):
            self.logger().info(message)
        events = [json.loads(line) for line in self.output.getvalue().splitlines()]
        kept = [int(event["message"].split()[0]) for event in events if "x" in event["message"]]
        self.assertTrue(900 < len(kept) < 1000, len(kept))
        self.assertEqual(kept, [*range(len(kept))])
        note, last = events[-2:]
        self.assertRegex(note["message"], r"\A5\d\d lines of the log were dropped: nobody took them")
        self.assertEqual((note["level"], note["from"]), ("warn", "openai_server.log"))
        self.assertEqual(last["message"], "last")

    def test_putAside(self) -> None:
        """
        What waits is still for the old file.
        """
        self.observer = JSONLog(lambda: self.output, loop=FakeLoop())
        self.logger().info("a")
        self.observer.reopen()
        self.assertEqual((len(self.events()), self.output.reopened), (1, 1))
