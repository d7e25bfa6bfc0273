"""
A daemon and its worker for measuring what reads it: C{python -m benchmarks.daemon SOCKET}.

It speaks thrum as humd does where a turn that succeeds needs it, costs little,
and knows one thing that humd does not: it waits for a slow reader, so that a
flood is as fast as it is read and loses nothing. It ends with its standard
input.
"""

from __future__ import annotations

import heapq
import json
import re
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator

from benchmarks.question import Question, questionFromPrompt

BREATH = b'{"chi":"breath","from":"daemon","sessions":[],"protoVersion":"0.7.0"}\n'

#: Bytes of a flood that are made at once, and tokens of one turn in it.
_PORTION = 32 * 1024
_TURN = 8

_CHI = re.compile(rb'"chi":"([a-z-]+)"')
_RID = re.compile(rb'"rid":"([\w-]+)"')
_SID = re.compile(rb'"sid":"([\w-]+)"')
#: Where the members are looked for: prompts may have 20 MiB.
_HEAD = 4096


class Turn:
    """
    One question and the lines of its answer.
    """

    def __init__(self, sid: str, question: Question) -> None:
        self.question = question
        self._sent = 0
        self.sid = sid
        self._start = f'{{"chi":"chunk","sid":"{sid}","chunkType":"text_delta","blockIdx":0,"delta":'
        self.isCancelled = False

    def opening(self) -> bytes:
        """
        What comes before the first token.
        """
        ready = {"chi": "session-ready", "sid": self.sid, "nestId": "bench", "model": "bench", "tools": []}
        start = {"chi": "chunk", "sid": self.sid, "chunkType": "text_start", "blockIdx": 0}
        return _line(ready) + _line(start)

    def tokens(self, most: int, microseconds: int | None = None) -> bytes:
        """
        The next tokens, and the end after the last.
        """
        question, first = self.question, self._sent
        self._sent = min(first + most, question.tokens)
        lines = [
            f"{self._start}{_quoted(question.delta(number, microseconds))}}}\n"
            for number in range(first, self._sent)
        ]
        return "".join(lines).encode() + (self._end() if self.isOver else b"")

    @property
    def isOver(self) -> bool:
        """
        All tokens were made.
        """
        return self._sent >= self.question.tokens

    def _end(self) -> bytes:
        usage = {"input_tokens": 9, "output_tokens": self.question.tokens + 1}
        stop = {"chi": "chunk", "sid": self.sid, "chunkType": "content_block_stop", "blockIdx": 0}
        finish = {"chi": "finish", "sid": self.sid, "finishReason": "success", "usage": usage}
        return _line(stop) + _line(finish)


class Bee:
    """
    One connection: its turns, and the bytes that it has not read yet.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._partial: list[bytes] = []
        self._unsent = bytearray(BREATH)
        self._flooding: deque[Turn] = deque()
        self._held: list[Turn] = []
        self._turns: dict[str, Turn] = {}
        self.isGone = False

    @property
    def hasMore(self) -> bool:
        """
        There is something to send now.
        """
        return bool(self._unsent or self._flooding)

    def receive(self) -> Iterator[Turn]:
        """
        Read what is there.

        @return: turns that want to be paced.
        """
        try:
            received = self.connection.recv(1 << 20)
        except OSError:
            received = b""
        if not received:
            self.isGone = True
            return
        head, newline, rest = received.rpartition(b"\n")
        if not newline:
            self._partial.append(received)
            return
        lines = b"".join([*self._partial, head]).split(b"\n")
        self._partial = [rest]
        for line in lines:
            yield from self._tone(line)

    def send(self) -> None:
        """
        Write what the socket takes, making more of the flood when all is gone.
        """
        while self._flooding and len(self._unsent) < _PORTION:
            turn = self._flooding.popleft()
            if not turn.isCancelled:
                self._make(turn, _TURN, None)
                if not turn.isOver:
                    self._flooding.append(turn)
        try:
            sent = self.connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.isGone = True
            return
        del self._unsent[:sent]

    def sendToken(self, turn: Turn) -> None:
        """
        One paced token with the time, written at once.
        """
        self._make(turn, 1, time.monotonic_ns() // 1000)
        self.send()

    def _make(self, turn: Turn, tokens: int, microseconds: int | None) -> None:
        self._unsent += turn.tokens(tokens, microseconds)
        if turn.isOver:
            del self._turns[turn.sid]

    def _tone(self, line: bytes) -> Iterator[Turn]:
        head = line[:_HEAD]
        chi, rid, sid = (_member(pattern, head) for pattern in (_CHI, _RID, _SID))
        if rid and chi not in ("log", "echo"):
            # humd echoes a prompt twice.
            self._unsent += _line({"chi": "echo", "rid": rid, "ok": True}) * (2 if chi == "prompt" else 1)
        if chi == "hello":
            self._unsent += BREATH
        elif chi == "cancel" and sid in self._turns:
            self._turns.pop(sid).isCancelled = True
        elif chi == "prompt":
            yield from self._asked(sid, questionFromPrompt(line))

    def _asked(self, sid: str, question: Question) -> Iterator[Turn]:
        turn = self._turns[sid] = Turn(sid, question)
        self._unsent += turn.opening()
        if question.isHeld:
            self._make(turn, 1, None)
            self._held.append(turn)
        elif question.rate:
            yield turn
        else:
            self._flooding.append(turn)
            if not question.tokens:
                self._flooding.extend(self._held)
                self._held = []


class Daemon:
    """
    The socket, its connections, and the clock of what is paced.
    """

    def __init__(self, path: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._due: list[tuple[float, int, Bee, Turn]] = []
        self._paced = 0

    def run(self) -> None:
        """
        Serve until standard input ends.
        """
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        while True:
            for key, mask in self._selector.select(self._untilDue()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is None:
                    return
                else:
                    self._serve(key.data, mask)
            self._sendDue()

    def _untilDue(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _accept(self) -> None:
        bee = Bee(self._listener.accept()[0])
        self._selector.register(bee.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, bee)

    def _serve(self, bee: Bee, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            for turn in bee.receive():
                self._pace(bee, turn, time.monotonic())
        if not bee.isGone and bee.hasMore:
            bee.send()
        self._interest(bee)

    def _interest(self, bee: Bee) -> None:
        if bee.isGone:
            self._selector.unregister(bee.connection)
            bee.connection.close()
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if bee.hasMore else 0)
        if self._selector.get_key(bee.connection).events != wanted:
            self._selector.modify(bee.connection, wanted, bee)

    def _pace(self, bee: Bee, turn: Turn, due: float) -> None:
        self._paced += 1
        heapq.heappush(self._due, (due, self._paced, bee, turn))

    def _sendDue(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, bee, turn = heapq.heappop(self._due)
            if bee.isGone or turn.isCancelled:
                continue
            bee.sendToken(turn)
            if bee.isGone or bee.hasMore:
                self._interest(bee)
            if not turn.isOver:
                self._pace(bee, turn, due + 1 / turn.question.rate)


def _member(pattern: re.Pattern[bytes], head: bytes) -> str:
    found = pattern.search(head)
    return found[1].decode() if found else ""


def _line(tone: dict[str, object]) -> bytes:
    return json.dumps(tone, separators=(",", ":")).encode() + b"\n"


def _quoted(text: str) -> str:
    # The quote is all that JSON escapes in a token; json.dumps would cost more than the rest of the line.
    return '"' + text.replace('"', '\\"') + '"'


if __name__ == "__main__":
    Daemon(sys.argv[1]).run()
