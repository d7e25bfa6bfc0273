# -*- test-case-name: tests.test_config -*-
"""
The settings: their values, and everything that is said about each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from openai_server.config.configuration import Configuration
from openai_server.config.kinds import Kind, Listing, Seconds, Text, Truth, Value, Whole

#: What every environment variable of this server begins with.
PREFIX: Final = "OPENAI_SERVER_"
#: Bytes of the names of tools that go to a worker's process as one argument:
#: from 131,072 up it cannot start, and some room is for names of clients.
TOOLS_ROOM: Final = 32 * 1024


@dataclass(frozen=True)
class Setting:
    """
    One setting: its names, its values and its meaning.

    @ivar name: the file's key, and the field of the configuration.
    @ivar what: half a sentence for C{--help} and the README.
    @ivar unit: of a number, when it has one.
    @ivar isSecret: the value is never shown.
    @ivar isFlag: its option takes no value: said, it means C{true}.
    @ivar ownVariable: the environment variable, where it is not the derived one.
    @ivar places: where it can be set: C{file}, C{environment}, C{option}.
    """

    name: str
    kind: Kind
    what: str
    unit: str = ""
    isSecret: bool = False
    isFlag: bool = False
    ownVariable: str | None = None
    places: tuple[str, ...] = ("file", "environment", "option")

    @property
    def default(self) -> Value:
        """
        What holds when nobody says anything.
        """
        value: Value = getattr(DEFAULTS, self.name)
        return value

    @property
    def variable(self) -> str:
        """
        The name in the environment.
        """
        return self.ownVariable or PREFIX + self._words("_").upper()

    @property
    def option(self) -> str:
        """
        The name on the command line, with its dashes.
        """
        return "--" + self._words("-")

    @property
    def isList(self) -> bool:
        """
        Several values: its option can be repeated.
        """
        return isinstance(self.kind, Listing)

    def _words(self, between: str) -> str:
        return re.sub("(?=[A-Z])", between, self.name).lower()


DEFAULTS: Final = Configuration()


#: Every setting, in the order of the README's table.
SETTINGS: Final = (
    Setting("port", Whole(0, 65535), "HTTP port; 0 takes a free one"),
    Setting("host", Text(), "HTTP address"),
    Setting("apiKey", Text(), "bearer token that requests must bring; unset: none", isSecret=True),
    Setting(
        "thrumSocket",
        Text(),
        "the daemon's socket; unset: looked for where daemons put it",
        ownVariable="HUM_THRUM_SOCK",
        places=("environment",),
    ),
    Setting("firstLifeTimeout", Seconds(), "from the daemon's echo to the first tone of a turn", "s"),
    Setting("stallTimeout", Seconds(), "between two tones of a turn", "s"),
    Setting("turnTimeout", Seconds(), "a whole turn", "s"),
    Setting("maxTurns", Whole(0, 100_000), "live and parked turns per worker; 0: unlimited"),
    Setting("cwd", Text(), "folder in which the worker works"),
    Setting("allowedTools", Listing(TOOLS_ROOM), "the worker's own tools that it may use"),
    Setting("disallowedTools", Listing(TOOLS_ROOM), "the worker's own tools that it must not use"),
    Setting("models", Listing(), "model ids to list besides those that workers advertise"),
    Setting("defaultModel", Text(), "model of requests that name none"),
    Setting("allowedHosts", Listing(), "further names that the Host header may have when no key is set"),
    Setting("corsOrigins", Listing(), "origins whose pages may read answers in a browser"),
    Setting("strict", Truth(), "refuse requests with unknown fields"),
    Setting(
        "reasoningField",
        Text(("reasoning_content", "reasoning", "both", "none")),
        "where reasoning stands in a message: reasoning_content, reasoning, both, none",
    ),
    Setting(
        "attachments",
        Text(("tone", "file", "both")),
        "how images and files go to the worker: tone, file, both",
    ),
    Setting("bodyLimit", Whole(1, 1 << 30), "largest request body", "bytes"),
    Setting(
        "keepAlive",
        Text(("chunk", "comment", "off")),
        "what a silent stream sends: (empty) chunk, comment, off",
    ),
    Setting("keepAliveInterval", Seconds(), "silence after which a stream sends it", "s"),
    Setting(
        "headersHold", Seconds(mayBeZero=True), "longest wait of a stream's headers for its first token", "s"
    ),
    Setting("echoTimeout", Seconds(), "from a prompt to the daemon's echo", "s"),
    Setting("handshakeTimeout", Seconds(), "from connecting to the daemon to its first breath", "s"),
    Setting("heartbeatInterval", Seconds(), "between two probes of a silent daemon", "s"),
    Setting("drainTimeout", Seconds(mayBeZero=True), "how long open answers may go on at a shutdown", "s"),
    Setting("keyFile", Text(), "this bee's key; unset: hum/bees/openai-server.key in the state folder"),
    Setting("registryFile", Text(), "the daemon's registry; unset: hum/bees.json in the state folder"),
    Setting("queueLength", Whole(0, 1_000_000), "requests that may wait for a turn"),
    Setting("queueTimeout", Seconds(mayBeZero=True), "how long they may wait", "s"),
    Setting("parkTimeout", Seconds(), "how long a model's tool call waits for its result", "s"),
    Setting("collectWindow", Seconds(mayBeZero=True), "calls this close together share one answer", "s"),
    Setting("drainSlot", Seconds(mayBeZero=True), "how long a cancelled turn may keep its place", "s"),
    Setting(
        "retryGrace", Seconds(mayBeZero=True), "how long a turn waits for its client's automatic retry", "s"
    ),
    Setting(
        "userHint",
        Text(("auto", "always", "never")),
        "whether a lone message continues its user's session: auto, always, never",
    ),
    Setting("continuation", Truth(), "let a conversation go on in its warm session"),
    Setting("registerTools", Truth(), "tell the daemon the names of clients' tools"),
    Setting("workerTools", Truth(), "show the worker's own tool use as reasoning"),
    Setting(
        "listen", Listing(), "Twisted endpoint string to listen on in place of host and port; repeatable"
    ),
    Setting(
        "insecureNoAuth",
        Truth(),
        "allow an address that others can reach without an API key",
        isFlag=True,
    ),
    Setting("embedded", Truth(), "run a daemon with an echo model in this process", isFlag=True),
)


BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def markdownTable() -> str:
    """
    The README's table of settings.
    """
    rows = [
        "| file key | environment | option | default | what |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join(rows + [_markdownRow(setting) for setting in SETTINGS]) + "\n"


def _markdownRow(setting: Setting) -> str:
    def cell(place: str, name: str) -> str:
        return f"`{name}`" if place in setting.places else "-"

    default = setting.default
    shown = "unset" if default is None or default == () else f"`{json.dumps(default).strip(chr(34))}`"
    unit = f" {setting.unit}" if setting.unit else ""
    return (
        f"| {cell('file', setting.name)} | {cell('environment', setting.variable)}"
        f" | {cell('option', setting.option)} | {shown}{unit} | {setting.what} |"
    )
