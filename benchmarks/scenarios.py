"""
What is done to a target, and the figures that it gives.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from benchmarks.figures import RELAY, SERVER, VOLATILE, percentile
from benchmarks.load import (
    Connection,
    Exchange,
    ask,
    askResponse,
    close,
    converse,
    drive,
    hasFirstToken,
    listModels,
)
from benchmarks.processes import Target
from benchmarks.question import Question, fresh

Figures: TypeAlias = dict[str, float]

#: Connections that are opened before the server is given time to accept them.
_WAVE = 32

_MIB = 2**20


@dataclass(frozen=True)
class Size:
    """
    How much of everything.

    @ivar tokens: of one flood, all streams together.
    @ivar seconds: of one paced scenario.
    @ivar requests: of one scenario without streaming.
    @ivar held: streams that are held at the same time.
    @ivar bodies: how many of 20 MiB arrive beside the streams.
    """

    rounds: int
    tokens: int
    seconds: float
    requests: int
    held: int
    bodies: int


FULL: Final = Size(rounds=5, tokens=200_000, seconds=2.5, requests=1600, held=1000, bodies=3)
QUICK: Final = Size(rounds=1, tokens=50_000, seconds=1.5, requests=480, held=1000, bodies=1)


def warmUp(target: Target, size: Size) -> Figures:
    """
    Let the target meet each kind of request before anything counts.
    """
    _exchanged(target, [[ask(fresh(50), isStream=True)] for _ in range(8)])
    _exchanged(target, [[ask(fresh(50), isStream=False), listModels()] for _ in range(8)])
    if target.name != RELAY:
        _exchanged(target, [[askResponse(fresh(50))] for _ in range(8)])
    return {}


def streamed(question: Question) -> Exchange:
    """
    A streamed chat completion.
    """
    return ask(question, isStream=True)


def flood(streams: int) -> Callable[[Target, Size], Figures]:
    """
    Tokens as fast as they are read.
    """

    def measure(target: Target, size: Size) -> Figures:
        found = _flooded(target, size, streams, streamed)
        name = f"flood {streams}"
        return found.used.cpuFor(f"{name} cpu", 1e5 / found.tokens) | {
            f"{name} speed": found.tokens / found.used.seconds
        }

    return measure


def responses(target: Target, size: Size) -> Figures:
    """
    The same of the Responses API, which the relay does not speak.
    """
    flooded = _flooded(target, size, 16, askResponse)
    slow = [fresh(int(size.seconds * 50), rate=50) for _ in range(16)]
    used = _exchanged(target, [[askResponse(question)] for question in slow])
    tokens = sum(question.tokens for question in slow)
    return flooded.used.cpuFor("responses flood 16 cpu", 1e5 / flooded.tokens) | used.cpuFor(
        "responses paced 16 cpu", 1e5 / tokens
    )


def _flooded(target: Target, size: Size, streams: int, make: Callable[[Question], Exchange]) -> _Flood:
    questions = [fresh(size.tokens // streams) for _ in range(streams)]
    used = _exchanged(target, [[make(question)] for question in questions])
    return _Flood(used, sum(question.tokens for question in questions))


def paced(streams: int) -> Callable[[Target, Size], Figures]:
    """
    Tokens as models make them, 50 a second in each stream.
    """

    def measure(target: Target, size: Size) -> Figures:
        questions = [fresh(int(size.seconds * 50), rate=50) for _ in range(streams)]
        used = _exchanged(target, [[streamed(question)] for question in questions])
        tokens = sum(question.tokens for question in questions)
        found = used.cpuFor(f"paced {streams} cpu", 1e5 / tokens)
        if streams == 128:
            ways = _ways(used.exchanges)
            found |= {"latency p50": percentile(ways, 50) * 1e3, "latency p99": percentile(ways, 99) * 1e3}
        return found

    return measure


def firstToken(target: Target, size: Size) -> Figures:
    """
    64 short answers asked for at once.
    """
    used = _exchanged(target, [[ask(fresh(20), isStream=True)] for _ in range(64)])
    times = [exchange.firstTokenAfter() * 1e3 for exchange in used.exchanges]
    return {"first p50": percentile(times, 50), "first p99": percentile(times, 99)}


def plain(target: Target, size: Size) -> Figures:
    """
    Requests without streaming, on 32 connections.
    """
    return _requests("plain", target, size, lambda: ask(fresh(20), isStream=False))


def models(target: Target, size: Size) -> Figures:
    """
    The list of models, on 32 connections.
    """
    return _requests("models", target, size, listModels)


def _requests(name: str, target: Target, size: Size, make: Callable[[], Exchange]) -> Figures:
    used = _exchanged(target, [[make() for _ in range(size.requests // 32)] for _ in range(32)])
    count = len(used.exchanges)
    return used.cpuFor(f"{name} cpu", 1e3 / count) | {f"{name} speed": count / used.seconds}


def stored(target: Target, size: Size) -> Figures:
    """
    What touches the store, of the server with one and of the one without.
    """
    each = size.requests // 32
    queues: dict[str, list[Sequence[Exchange]]] = {
        "fresh": [[ask(fresh(20), isStream=False) for _ in range(each)] for _ in range(32)],
        "continued": [_conversations(each) for _ in range(32)],
        "single": [_conversations(size.requests // 4)],
        "kept": [[askResponse(fresh(20), isKept=True) for _ in range(each)] for _ in range(32)],
    }
    found = {}
    for name, asked in queues.items():
        count = sum(map(len, asked))
        found |= _exchanged(target, asked).cpuFor(f"{name} cpu", 1e3 / count)
    return found


def _conversations(exchanges: int) -> list[Exchange]:
    """
    Conversations of ten questions each.
    """
    return [each for _ in range(exchanges // 10 or 1) for each in converse([fresh(20) for _ in range(10)])]


def held(target: Target, size: Size) -> Figures:
    """
    Streams that are open and silent after their first token. All of them go on
    in the end.
    """
    before = target.memory()
    connections: list[Connection] = []
    try:
        while len(connections) < size.held:
            wave = range(min(_WAVE, size.held - len(connections)))
            opened = [Connection(target.port, [ask(fresh(2, isHeld=True), isStream=True)]) for _ in wave]
            connections += opened
            drive(opened, hasFirstToken)
        after = target.memory()
        _exchanged(target, [[ask(Question("release", 0), isStream=True)]])
        drive(connections)
        _check(connections)
    finally:
        close(connections)
    if before is None or after is None:
        return {}
    return {"held memory": (after - before) / 1024 / size.held}


def stall(target: Target, size: Size) -> Figures:
    """
    16 streams of 1,250 tokens a second each, which together is the most that
    humd forwards, and bodies of almost 20 MiB that arrive meanwhile.
    """
    rate = 1250
    streams = [[ask(fresh(int(rate * size.seconds), rate), isStream=True)] for _ in range(16)]
    bodies = [ask(fresh(1), isStream=False, padding=20 * _MIB - 4096) for _ in range(size.bodies)]
    used = _exchanged(target, [*streams, bodies])
    streamed = [exchange for exchange in used.exchanges if exchange.isStream]
    ways = _ways(streamed)
    gaps = [
        later - earlier
        for exchange in streamed
        for (_, earlier), (_, later) in itertools.pairwise(exchange.arrivals())
    ]
    return {
        "stall gap": max(gaps) * 1e3,
        "stall p99.9": percentile(ways, 99.9) * 1e3,
        "stall max": max(ways) * 1e3,
    }


#: Done once, first, while the target's memory is still its own.
ONCE: Final[Mapping[str, Callable[[Target, Size], Figures]]] = {"warm-up": warmUp, "held": held}

#: Done in each round.
EACH: Final[Mapping[str, Callable[[Target, Size], Figures]]] = {
    **{f"flood {streams}": flood(streams) for streams in (1, 16, 128)},
    **{f"paced {streams}": paced(streams) for streams in (1, 16, 128)},
    "responses": responses,
    "first": firstToken,
    "plain": plain,
    "models": models,
    "stored": stored,
    "stall": stall,
}


#: Who is measured, where it is not server and relay.
_TARGETS: Final[Mapping[str, Sequence[str]]] = {
    "warm-up": (SERVER, RELAY, VOLATILE),
    "responses": (SERVER,),
    "stored": (SERVER, VOLATILE),
}


def isFor(target: str, name: str) -> bool:
    """
    A scenario is one for this target.
    """
    return target in _TARGETS.get(name, (SERVER, RELAY))


@dataclass(frozen=True)
class _Used:
    """
    What some exchanges took.

    @ivar cpu: seconds of the target alone; None where the system does not tell.
    """

    exchanges: Sequence[Exchange]
    cpu: float | None
    seconds: float

    def cpuFor(self, name: str, factor: float) -> Figures:
        """
        The CPU seconds in other terms, if they are known.
        """
        return {} if self.cpu is None else {name: self.cpu * factor}


@dataclass(frozen=True)
class _Flood:
    """
    What a flood of so many tokens took.
    """

    used: _Used
    tokens: int


def _exchanged(target: Target, queues: Sequence[Sequence[Exchange]]) -> _Used:
    """
    Do these exchanges, each queue on a connection of its own, and check them
    all.
    """
    connections: list[Connection] = []
    try:
        for start in range(0, len(queues), _WAVE):
            connections += [Connection(target.port, queue) for queue in queues[start : start + _WAVE]]
            time.sleep(0.05)
        before, began = target.cpu(), time.monotonic()
        drive(connections)
        seconds, after = time.monotonic() - began, target.cpu()
    finally:
        close(connections)
    cpu = None if before is None or after is None else after - before
    return _Used(_check(connections), cpu, seconds)


def _check(connections: Sequence[Connection]) -> list[Exchange]:
    exchanges = [exchange for connection in connections for exchange in connection.done]
    for exchange in exchanges:
        exchange.check()
    return exchanges


def _ways(exchanges: Sequence[Exchange]) -> list[float]:
    """
    Seconds from daemon to client of each paced token.
    """
    return [came - sent for exchange in exchanges for sent, came in exchange.arrivals()]
