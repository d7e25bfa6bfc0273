"""
A tool loop whose server is killed at every point: before and after each write
to the daemon, to the client and to the store.

    python -m tests.crashsweep [--every N] [--kinds chat,stream,responses]

The client does what a careful one does: it asks again when it has no complete
answer. What has to hold wherever the server dies: each tool is run once, no
call is given two results, no session is prompted while a turn of its runs, the
last word is right, and the database opens without repair.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread

from openai_server.clock import MonotonicClock
from openai_server.embedded.content import sectionsOf
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.machinery.steps import Call, CallTools, Say
from tests.recorder import StrictRecorder

STEPS = ("one", "two", "three")
#: Seconds within which a loop comes to its end.
PATIENCE = 30.0
KINDS = ("chat", "stream", "responses")


def looping(question: ModelPrompt) -> Sequence[Step]:
    """
    A model that calls each tool once, and does not call those again whose
    results it is shown.
    """
    shown = sum(header.startswith("result") for header, _ in sectionsOf(question.content))
    calls = [Call(name, {"chi": "tool-call", "name": name, "args": {}}) for name in STEPS[shown:]]
    return [*(CallTools([call]) for call in calls), Say("All is done.")]


class NotAnswered(Exception):
    """
    There was no complete answer.
    """


#: Why one asks again.
NOT_ANSWERED = (OSError, http.client.HTTPException, NotAnswered)


class Asked(Protocol):
    """
    What a client talks to.
    """

    def ask(self, path: str, body: Any) -> bytes:
        """
        Ask until there is a complete answer.
        """


class Server:
    """
    A server that may die, and its successors.

    @ivar points: a file with a byte for each point that they have passed.
    """

    def __init__(
        self, folder: Path, daemon: FaultyDaemon, zygote: Zygote, store: str = "sqlite:", name: str = ""
    ) -> None:
        """
        @param name: what tells its files from those of others.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.points = folder / f"points{name}"
        self.log = folder / f"log{name}"
        self.hasDied = False
        self._folder = folder
        self._daemon = daemon
        self._zygote = zygote
        self._store = store

    @property
    def isAlive(self) -> bool:
        """
        Whether there is one now.
        """
        return self._zygote.isAlive

    def start(self, deadly: int = 0) -> None:
        """
        Start one.
        """
        runtime = self._folder / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        environ = {
            "HOME": str(self._folder),
            "XDG_STATE_HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "HUM_THRUM_SOCK": str(self._daemon.socketPath),
            "OPENAI_SERVER_REGISTRY_FILE": str(self._daemon.registryPath),
            "OPENAI_SERVER_PORT": str(self.port),
            "OPENAI_SERVER_STORE": self._store,
        }
        order = {"deadly": deadly, "points": str(self.points), "environ": environ}
        self._zygote.start({**order, "log": str(self.log), "folder": str(self._folder)})

    def stop(self) -> int | None:
        """
        Stop it in good order.

        @return: the status that it ended with.
        """
        return self._zygote.stop()

    def ask(self, path: str, body: Any) -> bytes:
        """
        Ask until there is a complete answer, of a server that lives.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if not self.isAlive:
                self.hasDied = True
                self.start()
            try:
                return self.asked(path, json.dumps(body).encode())
            except NOT_ANSWERED:
                time.sleep(0.02)
        raise AssertionError("there was never an answer")

    def asked(self, path: str, body: bytes) -> bytes:
        """
        Ask once.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= 500:
            raise NotAnswered(said)
        assert answer.status == 200, said
        return said


class Zygote:
    """
    What servers are forked from.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.machinery.mortal"]
        here = Path(__file__).parent.parent
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=here
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._pid: int | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def start(self, order: Any) -> None:
        """
        Fork one; the one before is gone.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        # The first one waits for all imports.
        self._pid = int(self._lines.get(timeout=4 * PATIENCE))

    @property
    def isAlive(self) -> bool:
        """
        Whether there is one.
        """
        if self._pid is not None and not self._lines.empty():
            self._lines.get()
            self._pid = None
        return self._pid is not None

    def stop(self) -> int | None:
        """
        End the one that there is.
        """
        if not self.isAlive:
            return None
        assert self._pid is not None
        os.kill(self._pid, signal.SIGTERM)
        status = int(self._lines.get(timeout=PATIENCE))
        self._pid = None
        return status

    def kill(self) -> None:
        """
        Kill the one that there is.
        """
        if self.isAlive:
            assert self._pid is not None
            os.kill(self._pid, signal.SIGKILL)
            self._pid = None
            self._lines.get(timeout=PATIENCE)

    def close(self) -> None:
        """
        End all.
        """
        self.kill()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


# Clients.


def chatLoop(server: Asked, ran: Counter[str], isStreamed: bool) -> str:
    """
    Run the loop with chat completions; the last word.
    """
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in STEPS]
    messages: list[Any] = [{"role": "user", "content": "Go."}]
    while True:
        body = {"model": "looping", "messages": messages, "tools": tools, "stream": isStreamed}
        said = server.ask("/v1/chat/completions", body)
        message = _messageFromStream(said) if isStreamed else json.loads(said)["choices"][0]["message"]
        if not message.get("tool_calls"):
            return str(message["content"])
        messages.append({name: value for name, value in message.items() if value is not None})
        for call in message["tool_calls"]:
            ran[call["function"]["name"]] += 1
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "ran"})


def _messageFromStream(said: bytes) -> Any:
    events = said.decode().split("\n\n")
    if "data: [DONE]" not in events:
        raise NotAnswered(said)
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for event in events:
        if event.startswith("data: {"):
            [choice] = json.loads(event.removeprefix("data: "))["choices"] or [{"delta": {}}]
            message["content"] += choice["delta"].get("content") or ""
            for piece in choice["delta"].get("tool_calls", ()):
                calls = message.setdefault("tool_calls", [])
                if "id" in piece:
                    calls.append({"id": piece["id"], "type": "function", "function": piece["function"]})
                else:
                    calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
    return message


def responsesLoop(server: Asked, ran: Counter[str]) -> str:
    """
    The same with responses, whose history the server keeps.
    """
    tools = [{"type": "function", "name": name, "parameters": {}} for name in STEPS]
    items: list[Any] = [{"role": "user", "content": "Go."}]
    previous: str | None = None
    while True:
        body = {"model": "looping", "input": items, "tools": tools, "previous_response_id": previous}
        response = json.loads(server.ask("/v1/responses", body))
        previous, output, items = response["id"], response["output"], []
        for item in output:
            if item["type"] == "function_call":
                ran[item["name"]] += 1
                items.append({"type": "function_call_output", "call_id": item["call_id"], "output": "ran"})
        if not items:
            return "".join(part["text"] for item in output for part in item.get("content", ()))


# The sweep.


def daemonIn(folder: Path, recorder: StrictRecorder) -> FaultyDaemon:
    """
    Start a daemon with the model of the loop, in the reactor's thread.
    """
    daemon = FaultyDaemon(
        clock=MonotonicClock(reactor),  # type: ignore[arg-type]
        settings=DaemonSettings(models={"looping": looping}, startUp=0.0),
        directory=folder,
        reactor=reactor,  # type: ignore[arg-type]
    )
    recorder.watch(daemon)
    daemon.start()
    return daemon


def problemsOf(recorder: StrictRecorder, ran: Counter[str], word: str) -> Iterable[str]:
    """
    Yield what did not hold of a loop.
    """
    yield from recorder.violations
    if ran != Counter(STEPS):
        yield f"tools were run as often as this: {dict(ran)}"
    if not word.endswith("All is done."):
        yield f"the last word was {word!r}"
    results = Counter((tone["sid"], tone["callId"]) for tone in recorder.sent("tool-result"))
    if any(times > 1 for times in results.values()):
        yield f"calls were answered more than once: {results}"


class Sweep:
    """
    One loop after the other, each with a server that dies at another point.

    @ivar failures: what did not hold, in words.
    @ivar deaths: how many servers died.
    @ivar points: at how many they might have.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.points = 0
        self.deaths = 0
        self._zygote = Zygote()

    def close(self) -> None:
        """
        End everything.
        """
        self._zygote.close()

    def count(self, kind: str) -> int:
        """
        Return at how many points a server of this loop may die.
        """
        return self.run(kind, 0)

    def run(self, kind: str, deadly: int) -> int:
        """
        Run a loop, in a thread that is not the reactor's.

        @return: how many points its servers passed.
        """
        # Short, since it holds the path of a socket.
        folder = Path(tempfile.mkdtemp(prefix="openai-server-tests-"))
        recorder = StrictRecorder()
        daemon = blockingCallFromThread(reactor, daemonIn, folder, recorder)
        server = Server(folder, daemon, self._zygote)
        ran: Counter[str] = Counter()
        try:
            server.start(deadly)
            isChat = kind != "responses"
            word = chatLoop(server, ran, kind == "stream") if isChat else responsesLoop(server, ran)
            points = server.points.stat().st_size
            log = server.log.read_text()
            problems = [*problemsOf(recorder, ran, word), *self._problemsOf(server, folder, log)]
        except Exception as error:
            points, problems = 0, [f"{type(error).__name__}: {error}; log: {_tailOf(folder / 'log')}"]
        finally:
            self._zygote.stop()
            blockingCallFromThread(reactor, daemon.stop)
            shutil.rmtree(folder)
        for problem in problems:
            self.failures.append(f"{kind} at {deadly}: {problem}")
            print(self.failures[-1], file=sys.stderr, flush=True)
        return points

    def _problemsOf(self, server: Server, folder: Path, log: str) -> Iterable[str]:
        status = server.stop()
        self.deaths += server.hasDied or status == -signal.SIGKILL
        # It may come to its deadly point on its way out.
        if status not in (0, -signal.SIGKILL, None):
            yield f"the last server ended with {status}"
        for word in ("Traceback", "critical", "degraded"):
            if word in log:
                yield f"{word!r} in the log: {log[-3000:]}"
        if any("corrupt" in path.name for path in (folder / "hum").iterdir()):
            yield "the database was repaired"
        with sqlite3.connect(folder / "hum" / "openai-server.db") as connection:
            [(said,)] = connection.execute("PRAGMA integrity_check")
        connection.close()
        if said != "ok":
            yield f"the database is not intact: {said}"


def _tailOf(log: Path) -> str:
    return log.read_text()[-3000:] if log.exists() else "none"


def sweep(kinds: Sequence[str], every: int) -> Sweep:
    """
    Sweep, in a thread that is not the reactor's.

    @param every: only each point of so many.
    """
    swept = Sweep()
    try:
        for kind in kinds:
            points = swept.count(kind)
            swept.points += points
            for deadly in range(1, points + 1, every):
                swept.run(kind, deadly)
    finally:
        swept.close()
    return swept


def runAsAsked(what: str, work: Callable[[Sequence[str], int], object]) -> None:
    """
    Do some work beside the reactor as the command line says.

    @param what: it does, in a sentence.
    @param work: is given the kinds of loops, and which part of the points is
        wanted: each of so many.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--every", type=int, default=1, help="only each point of so many")
    parser.add_argument("--kinds", default=",".join(KINDS))
    options = parser.parse_args()

    def run() -> None:
        try:
            work(options.kinds.split(","), options.every)
        finally:
            reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

    reactor.callWhenRunning(threading.Thread(target=run).start)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def main() -> None:
    """
    Sweep as the command line says.
    """
    found: list[Sweep] = []
    what = "Kill the server at every point of a tool loop."
    runAsAsked(what, lambda kinds, every: found.append(sweep(kinds, every)))
    [swept] = found
    print(f"{swept.deaths} of {swept.points} servers were killed, {len(swept.failures)} things did not hold")
    sys.exit(bool(swept.failures) or not swept.deaths)


if __name__ == "__main__":
    main()
