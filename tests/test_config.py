"""
Tests for L{openai_server.config}.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.config import (
    SETTINGS,
    Configuration,
    ConfigurationError,
    Loaded,
    changed,
    load,
    markdownTable,
    passwordsIn,
)
from openai_server.config.changes import LIVE
from openai_server.config.exposure import (
    descriptionFromAddress,
    descriptionOfProcess,
    isLoopback,
    isPrivate,
    withSocketMode,
)
from openai_server.config.folders import keyPath
from openai_server.config.layers import Given, whyKeyNeeded
from openai_server.config.settings import BY_NAME
from openai_server.config.upstreams import UpstreamSettings
from tests.support import SyncCase

SECRET = "sk-very-secret-indeed"

#: A value for each kind of setting, other than the default: JSON, text, value.
EXAMPLES: dict[str, tuple[object, str, object]] = {
    "host": ("localhost", "localhost", "localhost"),
    "port": (8080, "8080", 8080),
    "apiKey": ("k1", "k1", "k1"),
    "cwd": ("/work", "/work", "/work"),
    "cwdRoots": (["/a", "/b"], "/a, /b", ("/a", "/b")),
    "defaultModel": ("opus", "opus", "opus"),
    "reasoningField": ("both", "both", "both"),
    "attachments": ("file", "file", "file"),
    "keepAlive": ("off", "off", "off"),
    "userHint": ("never", "never", "never"),
    "ownTools": ("never", "never", "never"),
    "onDisconnect": ("finish", "finish", "finish"),
    "processes": (7, "7", 7),
    "keyFile": ("/k", "/k", "/k"),
    "auditLog": ("/a", "/a", "/a"),
    "logLevel": ("warn", "warn", "warn"),
    "registryFile": ("/r", "/r", "/r"),
    "thrumSocket": ("/s", "/s", "/s"),
    "upstreams": ([{"name": "a", "socket": "/s"}], "", (UpstreamSettings(name="a", socket="/s"),)),
    "store": ("sqlite:////s.db", "sqlite:////s.db", "sqlite:////s.db"),
    "metrics": ("tcp:9464", "tcp:9464", "tcp:9464"),
    "traces": ("otlp", "otlp", "otlp"),
    "listen": (["unix:/a", "unix:/b"], "unix:/a, unix:/b", ("unix:/a", "unix:/b")),
}


def example(name: str) -> tuple[object, str, object]:
    """
    Another value than the default for a setting, in its three shapes.
    """
    default = getattr(Configuration(), name)
    if name in EXAMPLES:
        return EXAMPLES[name]
    if isinstance(default, bool):
        return not default, str(not default).lower(), not default
    if isinstance(default, tuple):
        return ["a", "b/c"], "a, b/c", ("a", "b/c")
    return 77, "77", 77


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


class ConfigCase(SyncCase):
    """
    A test with a home of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.file = self.home / ".config" / "hum" / "hives" / "openai-server.json"
        self.file.parent.mkdir(parents=True)
        self.store = f"sqlite:///{self.home}/.local/state/hum/openai-server.db"

    def write(self, content: str | bytes | dict[str, object]) -> None:
        """
        Write the configuration file, for the owner's eyes alone.
        """
        if isinstance(content, dict):
            content = json.dumps(content)
        self.file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.file.chmod(0o600)

    def load(self, given: Given | None = None, path: str | None = None, **environ: str) -> Loaded:
        """
        Load with this home.
        """
        return load(given or {}, {"HOME": str(self.home), **environ}, path)

    def refusal(self, given: Given | None = None, path: str | None = None, **environ: str) -> str:
        """
        The line by which these settings are refused.
        """
        line = str(self.assertRaises(ConfigurationError, self.load, given, path, **environ))
        self.assertTrue(line.isprintable(), line)
        self.assertNotIn(SECRET, line)
        return line


class LayerTests(ConfigCase):
    """
    Command line over environment over file over defaults.
    """

    def test_nothingSaidGivesDefaults(self) -> None:
        """
        A missing file is no error.
        """
        self.assertEqual(self.load().configuration, Configuration(store=self.store))
        self.assertEqual(set(self.load().sources.values()), {"default"})

    def test_theIssuesExample(self) -> None:
        """
        The file of the issue is read as it stands there.
        """
        self.write('{"host":"127.0.0.1","port":14620,"apiKey":"secret","models":["sonnet"]}')
        wanted = Configuration(apiKey="secret", models=("sonnet",), store=self.store)
        self.assertEqual(self.load().configuration, wanted)

    def test_layersMergeKeyByKey(self) -> None:
        """
        Each key comes from the highest layer that says it, and remembers it.
        """
        self.write({"port": 1, "maxTurns": 2, "models": ["a", "b"], "strict": True})
        loaded = self.load({"port": "3"}, OPENAI_SERVER_PORT="2", OPENAI_SERVER_MODELS="c")
        configuration = loaded.configuration
        self.assertEqual(
            (configuration.port, configuration.maxTurns, configuration.models, configuration.strict),
            (3, 2, ("c",), True),
        )
        self.assertEqual(loaded.sources["port"], "option --port")
        self.assertEqual(loaded.sources["models"], "environment OPENAI_SERVER_MODELS")
        self.assertEqual(loaded.sources["maxTurns"], f"file {self.file}")
        self.assertEqual(loaded.sources["host"], "default")

    def test_everySettingInTheFile(self) -> None:
        """
        Each key of the file arrives in its field.
        """
        for setting in SETTINGS:
            if "file" in setting.places:
                shape, _, value = example(setting.name)
                self.write({setting.name: shape})
                self.assertEqual(getattr(self.load().configuration, setting.name), value, setting.name)

    def test_everySettingInTheEnvironment(self) -> None:
        """
        Each variable arrives in its field.
        """
        for setting in SETTINGS:
            if "environment" in setting.places:
                _, text, value = example(setting.name)
                loaded = self.load(None, None, **{setting.variable: text})
                self.assertEqual(getattr(loaded.configuration, setting.name), value, setting.name)

    def test_everySettingOnTheCommandLine(self) -> None:
        """
        Each option arrives in its field; one that can be repeated is given as
        its values.
        """
        for setting in SETTINGS:
            if "option" in setting.places:
                shape, text, value = example(setting.name)
                said: Any = shape if setting.isList else text
                self.assertEqual(getattr(self.load({setting.name: said}).configuration, setting.name), value)

    def test_emptyKeyMeansUnset(self) -> None:
        """
        In the file and on the command line.
        """
        self.write({"apiKey": ""})
        self.assertIsNone(self.load().configuration.apiKey)
        self.write({"apiKey": "k"})
        self.assertIsNone(self.load({"apiKey": ""}).configuration.apiKey)

    def test_emptyVariableIsAsGoodAsNone(self) -> None:
        """
        Clearing a variable never switches off the file's key.
        """
        self.write({"apiKey": "k", "port": 1})
        configuration = self.load(OPENAI_SERVER_API_KEY="", OPENAI_SERVER_PORT="").configuration
        self.assertEqual((configuration.apiKey, configuration.port), ("k", 1))

    def test_zeroAndOneAreTruthValues(self) -> None:
        """
        In the file too, as numbers.
        """
        self.write({"strict": 1, "continuation": 0})
        configuration = self.load().configuration
        self.assertEqual((configuration.strict, configuration.continuation), (True, False))

    def test_nullMeansUnset(self) -> None:
        """
        Where unset is the default; nowhere else.
        """
        self.write({"cwd": None})
        self.assertIsNone(self.load().configuration.cwd)
        self.write({"port": None})
        self.assertIn("port: null is not a whole number", self.refusal())

    def test_pathsBecomeAbsolute(self) -> None:
        """
        The process leaves its folder when it becomes a daemon.
        """
        self.write({"keyFile": "~/my.key", "registryFile": "bees.json", "cwdRoots": ["~", "work"]})
        configuration = self.load(HUM_THRUM_SOCK="x/thrum.sock").configuration
        self.assertEqual(configuration.keyFile, str(self.home / "my.key"))
        self.assertEqual(configuration.registryFile, os.path.abspath("bees.json"))
        self.assertEqual(configuration.thrumSocket, os.path.abspath("x/thrum.sock"))
        self.assertEqual(configuration.cwdRoots, (str(self.home), os.path.abspath("work")))

    def test_namedFile(self) -> None:
        """
        C{--config} takes the place of the default file.
        """
        self.write({"port": 1})
        other = self.home / "other.json"
        other.write_text('{"port": 2}')
        self.assertEqual(self.load(path=str(other)).configuration.port, 2)

    def test_byteOrderMark(self) -> None:
        """
        Editors that write one do no harm.
        """
        self.write(b'\xef\xbb\xbf{"port": 5}')
        self.assertEqual(self.load().configuration.port, 5)


class RefusalTests(ConfigCase):
    """
    (P18) Whatever is wrong is said in one line that names place, key and reason.
    """

    def test_brokenFiles(self) -> None:
        """
        Files that are no JSON object, with the line where there is one.
        """
        for content, reason in (
            ('{"port": 1,\n "host": }', " line 2: not JSON: invalid character"),
            ("", " line 1: not JSON: Input data was truncated"),
            ("[]", ": not a JSON object"),
            (b'{\n\n"a": "\xff"}', " line 3: not UTF-8"),
            ('{"port": NaN}', " line 1: not JSON: invalid character"),
            ('{"port": 1, "port": 2}', ' line 1: the key "port" is there twice'),
            ("[" * 100_000, ": not a JSON object"),
            ('{"a":' * 100_000, ": maximum recursion depth"),
            ('{"port": ' + "1" * 5000 + "}", ": Integer value out of range"),
            (" " * (1 << 20) + "{}", ": larger than 1048576 bytes"),
        ):
            self.write(content)
            self.assertTrue(self.refusal().startswith(f"{self.file}{reason}"), self.refusal())

    def test_unknownKeys(self) -> None:
        """
        With the key that was probably meant.
        """
        for key, meant in (
            ("prot", "port"),
            ("api_key", "apiKey"),
            ("OPENAI_SERVER_MAX_TURNS", "maxTurns"),
            ("temperature", None),
            ("x" * 500, None),
        ):
            self.write({key: SECRET})
            question = f"; did you mean {meant}?" if meant else ""
            shown = json.dumps(key) if len(key) < 50 else '"' + "x" * 56 + "..."
            self.assertEqual(self.refusal(), f"{self.file} line 1: unknown key {shown}{question}")

    def test_wrongValues(self) -> None:
        """
        Types and bounds, with line, key and reason.
        """
        for key, value, reason in (
            ("port", "14620", '"14620" is not a whole number from 0 to 65535'),
            ("port", 65536, "65536 is not a whole number from 0 to 65535"),
            ("port", -1, "-1 is not a whole number from 0 to 65535"),
            ("port", True, "true is not a whole number from 0 to 65535"),
            ("port", 1.5, "1.5 is not a whole number from 0 to 65535"),
            ("bodyLimit", 0, "0 is not a whole number from 1 to 1073741824"),
            ("stallTimeout", -1, "-1 is not a number of seconds above 0 up to a year"),
            ("stallTimeout", 0, "0 is not a number of seconds above 0 up to a year"),
            ("drainTimeout", 1e300, "1e+300 is not a number of seconds from 0 up to a year"),
            ("drainTimeout", "30", '"30" is not a number of seconds from 0 up to a year'),
            ("drainTimeout", False, "false is not a number of seconds from 0 up to a year"),
            ("strict", "yes", '"yes" is not true or false'),
            ("strict", 2, "2 is not true or false"),
            ("models", "sonnet", '"sonnet" is not a list of strings'),
            ("models", ["a", 1], '["a", 1] is not a list of strings'),
            ("models", [""], '[""] is not a list of strings'),
            ("models", ["a\nb"], '["a\\nb"] has control characters or spaces at its ends'),
            ("cwd", "/a\u0000", '"/a\\u0000" has control characters or spaces at its ends'),
            ("host", "", '"" is empty'),
            ("host", 1, "1 is not a string"),
            ("keepAlive", "ping", '"ping" is not one of chunk, comment, off'),
        ):
            self.write('{\n"maxTurns": 8,\n' + json.dumps({key: value})[1:])
            self.assertEqual(self.refusal(), f"{self.file} line 3: {key}: {reason}")

    def test_wrongVariables(self) -> None:
        """
        The variable is named. Kubernetes sets such a port for a service that
        is called openai-server.
        """
        for name, text, reason in (
            ("OPENAI_SERVER_PORT", "tcp://10.0.0.1:14620", "is not a whole number from 0 to 65535"),
            ("OPENAI_SERVER_PORT", "1_4", "is not a whole number from 0 to 65535"),
            ("OPENAI_SERVER_PORT", "\u0661", "is not a whole number from 0 to 65535"),
            ("OPENAI_SERVER_QUEUE_TIMEOUT", "nan", "is not a number of seconds from 0 up to a year"),
            ("OPENAI_SERVER_QUEUE_TIMEOUT", "inf", "is not a number of seconds from 0 up to a year"),
            ("OPENAI_SERVER_QUEUE_TIMEOUT", "-1", "is not a number of seconds from 0 up to a year"),
            ("OPENAI_SERVER_STRICT", "yes", "is not true or false"),
            ("OPENAI_SERVER_CWD", "/\udcff", "has control characters or spaces at its ends"),
        ):
            self.assertEqual(self.refusal(None, None, **{name: text}), f"{name}: {json.dumps(text)} {reason}")

    def test_wrongOptions(self) -> None:
        """
        The option is named.
        """
        self.assertEqual(
            self.refusal({"maxTurns": "many"}), '--max-turns: "many" is not a whole number from 0 to 100000'
        )
        self.assertEqual(self.refusal({"models": ["a", ""]}), '--models: ["a", ""] is not a list of strings')

    def test_secretIsNeverSaid(self) -> None:
        """
        Neither by a wrong type nor by a wrong value.
        """
        self.write({"apiKey": [SECRET]})
        self.assertEqual(self.refusal(), f"{self.file} line 1: apiKey: the value is not a string")
        self.write({"apiKey": SECRET + "\n"})
        self.assertIn("apiKey: the value has control characters", self.refusal())
        self.write('{"apiKey": "' + SECRET + '" "port": 1}')
        self.assertIn("line 1: not JSON", self.refusal())
        self.file.unlink()
        self.assertIn("OPENAI_SERVER_API_KEY: the value", self.refusal(OPENAI_SERVER_API_KEY=f" {SECRET}"))

    def test_stores(self) -> None:
        """
        A store is a URL of a known kind; its file's path is made absolute, and
        what is wrong with it says no password.
        """
        for said, url in (
            ("memory:", "memory:"),
            ("sqlite:", f"sqlite:///{self.home}/.local/state/hum/openai-server.db"),
            ("sqlite:////data/a.db", "sqlite:////data/a.db"),
            ("sqlite:///~/a.db", f"sqlite:///{self.home}/a.db"),
            ("postgresql+psycopg://me@here:5432/db", "postgresql+psycopg://me@here:5432/db"),
            ("postgresql+psycopg:///db?host=/run", "postgresql+psycopg:///db?host=/run"),
        ):
            self.assertEqual(self.load({"store": said}).configuration.store, url)
        for said in (
            "a.db",
            "sqlite:a.db",
            "sqlite:///",
            "sqlite:///a.db?mode=ro",
            f"mysql://me:{SECRET}@here/db",
            f"postgresql://me:{SECRET}@here/db",
            f"postgresql+psycopg://me:{SECRET}@here:port/db",
            f"postgresql+psycopg://me:{SECRET}@[here/db",
            "",
        ):
            refusal = self.refusal({"store": said})
            self.assertIn("--store", refusal)
            self.assertNotIn(SECRET, refusal)

    def test_socketOfTheDaemonInTheFile(self) -> None:
        """
        All programs of hum's are told of it in one place, the environment.
        """
        self.write({"thrumSocket": "/s"})
        self.assertEqual(
            self.refusal(), f"{self.file} line 1: thrumSocket: not in the file, only as HUM_THRUM_SOCK"
        )

    def test_upstreams(self) -> None:
        """
        As they stand in the file, with what is left out.
        """
        east = {"name": "east", "socket": "/run/east.sock", "weight": 3, "registry": "~/east/bees.json"}
        self.write({"upstreams": [east, {"name": "w-2.x_y", "socket": "~/w.sock"}]})
        loaded = self.load()
        self.assertEqual(
            loaded.configuration.upstreams,
            (
                UpstreamSettings(
                    name="east", socket="/run/east.sock", weight=3.0, registry=f"{self.home}/east/bees.json"
                ),
                UpstreamSettings(name="w-2.x_y", socket=f"{self.home}/w.sock", weight=1.0, registry=None),
            ),
        )
        self.assertIn('"weight": 3.0', next(line for line in loaded.lines() if "upstreams" in line))
        self.write({"upstreams": []})
        self.assertEqual(self.load().configuration.upstreams, ())

    def test_badUpstreams(self) -> None:
        """
        Which one is wrong, and why.
        """
        a, b = {"name": "a", "socket": "/a"}, {"name": "b", "socket": "/b"}
        path = "a path that begins with / or ~/"
        for value, said in (
            ({}, " is not a list of objects, each with a name and a socket"),
            ("/a", " is not a list of objects, each with a name and a socket"),
            ([a, "/b"], "[1] is not an object with a name and a socket"),
            ([a, {"name": "b"}], "[1] has no socket"),
            ([{"socket": "/a"}], "[0] has no name"),
            ([a, b | {"name": "a"}], "[1].name is that of [0]"),
            ([a, b | {"socket": "/a"}], "[1].socket is that of [0]"),
            ([a | {"socket": "a.sock"}], f"[0].socket is not {path}"),
            ([a | {"socket": "/a\n"}], f"[0].socket is not {path}"),
            ([a | {"registry": "bees.json"}], f"[0].registry is not {path}"),
            ([a | {"weight": 0}], "[0].weight is not a number above 0 and up to a million"),
            ([a | {"weight": "2"}], "[0].weight is not a number above 0 and up to a million"),
            ([a | {"weight": 1e7}], "[0].weight is not a number above 0 and up to a million"),
            (
                [a | {"sokcet": "/b\n"}],
                '[0] has the unknown key "sokcet" (known are name, socket, weight, registry)',
            ),
        ):
            self.write({"upstreams": value})
            self.assertEqual(self.refusal(), f"{self.file} line 1: upstreams{said}")
        for name in ("", "a b", "-a", "a{b}", "ä", "x" * 65, 5):
            self.write({"upstreams": [a | {"name": name}]})
            self.assertIn("upstreams[0].name is not 1 to 64 letters, digits", self.refusal())

    def test_upstreamsElsewhere(self) -> None:
        """
        Not in the environment: such a variable is none of ours.
        """
        loaded = self.load(OPENAI_SERVER_UPSTREAMS="/s")
        self.assertEqual(loaded.configuration.upstreams, ())
        (warning,) = loaded.warnings
        self.assertIn('"OPENAI_SERVER_UPSTREAMS" is no setting', warning)

    def test_namedFileThatIsMissing(self) -> None:
        """
        Who names a file wants what is in it: the key, perhaps.
        """
        self.assertEqual(self.refusal(path="/nowhere/x.json"), "/nowhere/x.json: No such file or directory")

    def test_folderInPlaceOfTheFile(self) -> None:
        """
        What cannot be read ends the start.
        """
        self.file.mkdir()
        self.assertEqual(self.refusal(), f"{self.file}: Is a directory")

    def test_fifoInPlaceOfTheFile(self) -> None:
        """
        V18: nobody waits for what may come out of it.
        """
        os.mkfifo(self.file)
        self.assertEqual(self.refusal(), f"{self.file}: is not a regular file")

    def test_relativeHome(self) -> None:
        """
        V12: there is no telling whose folder that is.
        """
        self.assertEqual(self.refusal(HOME="home"), 'environment HOME: "home" is not an absolute path')

    def test_unreadableFile(self) -> None:
        """
        The same for one without permission.
        """

        def refuse(path: str, mode: str) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        self.write({})
        self.patch(builtins, "open", refuse)
        self.assertEqual(self.refusal(), f"{self.file}: Permission denied")


class WarningTests(ConfigCase):
    """
    What is odd and still works.
    """

    def test_strangeVariables(self) -> None:
        """
        A misspelt variable is named; other people's are not.
        """
        warnings = self.load(OPENAI_SERVER_PROT="1", OPENAI_API_KEY="x").warnings
        self.assertEqual(
            warnings, ('environment variable "OPENAI_SERVER_PROT" is no setting; did you mean port?',)
        )

    def test_keyOnTheCommandLine(self) -> None:
        """
        V7: every user sees it there.
        """
        (warning,) = self.load({"apiKey": SECRET}).warnings
        self.assertIn("--api-key: every user of this machine can read it with ps", warning)
        self.assertNotIn(SECRET, warning)

    def test_passwordOfTheStore(self) -> None:
        """
        It is as secret as the key, wherever it stands in the URL.
        """
        url = "postgresql+psycopg://me:p%40ss%2Fword@here/db?sslmode=require&sslpassword=other-word"
        loaded = self.load({"store": url})
        (warning,) = loaded.warnings
        self.assertIn("--store: every user of this machine can read it with ps", warning)
        shown = "postgresql+psycopg://me:********@here/db?sslmode=require&sslpassword=********"
        self.assertIn(f'store = "{shown}"  (option --store)', list(loaded.lines()))
        self.assertEqual(passwordsIn(url), ("p%40ss%2Fword", "other-word", "p@ss/word"))
        self.assertEqual(passwordsIn("memory:"), ())
        self.write({"store": url})
        self.file.chmod(0o644)
        self.assertEqual(self.load().warnings, (f"{self.file} holds store and other users can read it",))
        self.write({"store": "memory:"})
        self.assertEqual(self.load().warnings, ())

    def test_keyThatOthersCanRead(self) -> None:
        """
        A file with a key is for its owner's eyes.
        """
        self.write({"apiKey": SECRET})
        self.assertEqual(self.load().warnings, ())
        self.file.chmod(0o644)
        self.assertEqual(self.load().warnings, (f"{self.file} holds apiKey and other users can read it",))


class TracesTests(ConfigCase):
    """
    Where traces may go.
    """

    def test_taken(self) -> None:
        """
        A collector's URL, or the one word.
        """
        for said in ("otlp", "http://127.0.0.1:4318", "https://collector.example/otlp/v1/traces"):
            self.assertEqual(self.load({"traces": said}).configuration.traces, said)

    def test_refused(self) -> None:
        """
        Whatever else; what has a secret in it is not even said again.
        """
        for said in ("true", "grpc://x:4317", "http://", f"http://me:{SECRET}@x", f"http://x?key={SECRET}"):
            self.assertIn("option --traces: traces: the value is neither", self.refusal({"traces": said}))


class ExposureTests(ConfigCase):
    """
    Nobody but this machine gets in without a key, unless the operator says so.
    """

    def test_loopback(self) -> None:
        """
        Addresses that only this machine has; names are not looked up.
        """
        for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"):
            self.assertTrue(isLoopback(host), host)
        for host in ("", "0.0.0.0", "::", "192.168.1.2", "127.1", "localhost.example", "2130706433"):
            self.assertFalse(isLoopback(host), host)

    def test_descriptionsOfProcesses(self) -> None:
        """
        Where each of several has a port for itself alone.
        """
        for first, third in (
            ("tcp:9464:interface=127.0.0.1", "tcp:9466:interface=127.0.0.1"),
            (r"tcp6:interface=\:\:1:port=80", r"tcp6:interface=\:\:1:port=82"),
            ("ssl:443:privateKey=k.pem", "ssl:445:privateKey=k.pem"),
            ("tcp:0", "tcp:0"),
            ("unix:/run/x.sock:mode=600", "unix:/run/x.sock-3:mode=600"),
            (r"unix:address=/run/a\:b", r"unix:address=/run/a\:b-3"),
            ("systemd:domain=INET:index=0", None),
            ("haproxy:tcp:80", None),
            ("tcp:http", None),
        ):
            self.assertEqual(descriptionOfProcess(first, 1), first)
            self.assertEqual(descriptionOfProcess(first, 3), third, first)

    def test_descriptions(self) -> None:
        """
        What an endpoint string says about who gets in.
        """
        for private in (
            "tcp:80:interface=127.0.0.1",
            r"tcp6:80:interface=\:\:1",
            "ssl:443:privateKey=k.pem:interface=localhost",
            "unix:/run/x.sock",
            "systemd:domain=UNIX:index=0",
            "haproxy:tcp:80:interface=127.0.0.1",
        ):
            self.assertTrue(isPrivate(private), private)
        for public in (
            "tcp:80",
            "tcp6:80",
            "tcp:80:interface=0.0.0.0",
            "tcp:80:interface=127.0.0.1:interface=0.0.0.0",
            r"tcp:80:backlog=5\:interface=127.0.0.1",
            "systemd:domain=INET:index=0",
            "onion:80",
            "",
        ):
            self.assertFalse(isPrivate(public), public)

    def test_openAddressWithoutAKeyIsRefused(self) -> None:
        """
        By host and by listen, in whatever layer; a key or the operator's word
        helps.
        """
        self.write({"host": "0.0.0.0", "store": "memory:"})
        self.assertEqual(
            self.refusal(),
            f'file {self.file}: host "0.0.0.0": others may reach this address and no API key is set'
            " (set OPENAI_SERVER_API_KEY, or say --insecure-no-auth)",
        )
        self.assertEqual(self.load({"insecureNoAuth": "true"}).configuration.host, "0.0.0.0")
        self.assertEqual(self.load(OPENAI_SERVER_API_KEY="k").configuration.host, "0.0.0.0")

    def test_listenTakesThePlaceOfHost(self) -> None:
        """
        Then host and port say nothing any more.
        """
        self.write({"host": "0.0.0.0", "store": "memory:"})
        loaded = self.load({"listen": ["unix:/x", "tcp:1:interface=127.0.0.1"]})
        self.assertEqual(loaded.configuration.descriptions, ("unix:/x:mode=600", "tcp:1:interface=127.0.0.1"))
        self.assertIn('option --listen: listen "tcp:80"', self.refusal({"listen": ["unix:/x", "tcp:80"]}))

    def test_unixSocketsAreTheirOwners(self) -> None:
        """
        Unless the operator says which mode they have, in whatever way.
        """
        for said in ("unix:/x", "unix:address=/x", "haproxy:unix:/x", r"unix:/a\:b", r"unix:/mode\=7"):
            self.assertEqual(withSocketMode(said), said + ":mode=600")
        for said in (
            "unix:/x:mode=660",
            "unix:/x:660",
            "unix:660:address=/x",
            "unix:/x:lockfile=0:mode=666",
            "tcp:80:interface=127.0.0.1",
            "systemd:domain=UNIX:index=0",
            "unix",
            "",
        ):
            self.assertEqual(withSocketMode(said), said)

    def test_anyOriginNeedsAKey(self) -> None:
        """
        Or every page of the web could prompt the workers.
        """
        settings = {"OPENAI_SERVER_CORS_ORIGINS": "*", "OPENAI_SERVER_STORE": "memory:"}
        self.assertIn("OPENAI_SERVER_CORS_ORIGINS: corsOrigins", self.refusal(**settings))
        self.load(OPENAI_SERVER_CORS_ORIGINS="*", OPENAI_SERVER_API_KEY="k")

    def test_keysOfAStore(self) -> None:
        """
        Where the store may have keys, that is seen when it is opened.
        """
        for said, name in (({"host": "0.0.0.0"}, "host"), ({"corsOrigins": ["*"]}, "corsOrigins")):
            configuration = self.load({**said, "store": "sqlite:////s.db"}).configuration
            self.assertEqual((whyKeyNeeded(configuration) or "").partition(" ")[0], name)
            keyed = self.load({**said, "store": "sqlite:////s.db"}, OPENAI_SERVER_API_KEY="k")
            self.assertIsNone(whyKeyNeeded(keyed.configuration))
        self.assertIsNone(whyKeyNeeded(Configuration()))

    def test_hostAndPortAsADescription(self) -> None:
        """
        With the colons of an IPv6 address guarded.
        """
        self.assertEqual(descriptionFromAddress("127.0.0.1", 80), "tcp:80:interface=127.0.0.1:backlog=1024")
        self.assertEqual(descriptionFromAddress("::1", 80), r"tcp6:80:interface=\:\:1:backlog=1024")


class EnvironmentTests(SyncCase):
    """
    Bare environments, as containers and service managers have them.
    """

    def test_folders(self) -> None:
        """
        A relative XDG folder does not count, and neither does an empty one.
        """
        for environ, path in (
            ({"HOME": "/h"}, "/h/.local/state/hum/bees/openai-server.key"),
            ({"HOME": "/h", "XDG_STATE_HOME": ""}, "/h/.local/state/hum/bees/openai-server.key"),
            ({"HOME": "/h", "XDG_STATE_HOME": "rel"}, "/h/.local/state/hum/bees/openai-server.key"),
            ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/hum/bees/openai-server.key"),
            ({"XDG_STATE_HOME": "/s"}, "/s/hum/bees/openai-server.key"),
        ):
            self.assertEqual(keyPath(environ), path)

    def test_noHome(self) -> None:
        """
        The user database knows it; when that does not either, the defaults
        hold, there is no place for a key, and nothing lasts.
        """
        self.assertTrue(os.path.isabs(keyPath({}) or ""))
        self.patch(os, "getuid", lambda: 2**31 - 5)
        self.assertIsNone(keyPath({}))
        loaded = load({}, {})
        self.assertEqual(loaded.configuration, Configuration(store="memory:"))
        said = "nothing outlasts a restart: there is no home folder for it (set OPENAI_SERVER_STORE)"
        self.assertEqual(loaded.warnings, (said,))
        self.assertEqual(load({"store": "memory:"}, {}).warnings, ())

    def test_xdgConfigHome(self) -> None:
        """
        The file is looked for where the variable says.
        """
        folder = Path(self.mktemp()).absolute()
        (folder / "hum" / "hives").mkdir(parents=True)
        (folder / "hum" / "hives" / "openai-server.json").write_text('{"port": 9}')
        environ = {"HOME": "/nowhere", "XDG_CONFIG_HOME": str(folder)}
        self.assertEqual(load({}, environ).configuration.port, 9)


class TableTests(ConfigCase):
    """
    The one table of settings.
    """

    def test_everyFieldHasItsRow(self) -> None:
        """
        And every row its field, in the same order.
        """
        fields = [field.name for field in msgspec.structs.fields(Configuration)]
        self.assertEqual([setting.name for setting in SETTINGS], fields)

    def test_defaultsAreValid(self) -> None:
        """
        Each default would be accepted if somebody wrote it down.
        """
        for setting in SETTINGS:
            if setting.default is not None:
                self.assertEqual(
                    setting.parse("", setting.default, isText=False), setting.default, setting.name
                )

    def test_names(self) -> None:
        """
        The three names of a setting. Only the daemon's own is special.
        """
        special = [setting.name for setting in SETTINGS if len(setting.places) < 3 or setting.ownVariable]
        self.assertEqual(special, ["thrumSocket", "upstreams"])
        names = {setting.name: (setting.variable, setting.option) for setting in SETTINGS}
        self.assertEqual(names["apiKey"], ("OPENAI_SERVER_API_KEY", "--api-key"))
        self.assertEqual(names["firstLifeTimeout"][0], "OPENAI_SERVER_FIRST_LIFE_TIMEOUT")
        self.assertEqual(names["corsOrigins"][1], "--cors-origins")
        self.assertEqual(names["thrumSocket"][0], "HUM_THRUM_SOCK")

    def test_markdown(self) -> None:
        """
        One row a setting; what it has no place in is a dash.
        """
        lines = markdownTable().splitlines()
        self.assertEqual(len(lines), 2 + len(SETTINGS))
        self.assertIn("| `port` | `OPENAI_SERVER_PORT` | `--port` | `14620` |", lines[2])
        self.assertIn("| - | `HUM_THRUM_SOCK` | - | unset |", "".join(lines))
        self.assertIn("| `embedded` | `OPENAI_SERVER_EMBEDDED` | `--embedded` | `false` |", "".join(lines))
        self.assertIn("| `20971520` bytes |", "".join(lines))

    def test_printedWithSourcesAndWithoutSecrets(self) -> None:
        """
        One line a setting, as C{--print-config} shows them.
        """
        self.write({"apiKey": SECRET, "models": ["a"]})
        lines = list(self.load(OPENAI_SERVER_PORT="7").lines())
        self.assertEqual(len(lines), len(SETTINGS))
        self.assertIn("port = 7  (environment OPENAI_SERVER_PORT)", lines)
        self.assertIn(f'models = ["a"]  (file {self.file})', lines)
        self.assertIn(f"apiKey = ********  (file {self.file})", lines)
        self.assertIn("cwd = null  (default)", lines)
        self.assertNotIn(SECRET, "".join(lines))

    def test_tooManyToolsForOneArgument(self) -> None:
        """
        The worker's process could not start, and nobody would be told.
        """
        names = ["x" * 99] * 400
        self.assertEqual(len(self.load({"models": names}).configuration.models), 400)
        self.assertEqual(
            self.refusal({"disallowedTools": names}),
            "option --disallowed-tools: disallowedTools: more than 32768 bytes together",
        )

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.text("abc/-:.", min_size=1), max_size=5))
    def test_listsSurviveTheEnvironment(self, items: list[str]) -> None:
        """
        Whatever has no commas and spaces comes out as it went in.
        """
        self.assertEqual(BY_NAME["models"].parse("", ",".join(items), isText=True), tuple(items))

    @settings(deadline=None, max_examples=150)
    @given(
        st.one_of(
            st.binary(max_size=60),
            st.dictionaries(st.sampled_from(sorted(BY_NAME)), JSON, max_size=4),
            st.dictionaries(st.text(max_size=8), JSON, max_size=3),
        )
    )
    def test_anyFile(self, content: bytes | dict[str, object]) -> None:
        """
        Whatever stands in the file, it is read, or refused in one line.
        """
        self.write(content)
        try:
            self.load()
        except ConfigurationError as error:
            self.assertTrue(str(error).isprintable(), error)


class ChangeTests(SyncCase):
    """
    What another configuration changes while the server runs.
    """

    def test_changed(self) -> None:
        """
        What can hold at once does, and the rest is named.
        """
        before = Configuration(maxTurns=1, port=1, strict=True)
        holds, live, others = changed(before, Configuration(maxTurns=2, port=2, strict=True, models=("m",)))
        self.assertEqual(holds, Configuration(maxTurns=2, port=1, strict=True, models=("m",)))
        self.assertEqual((live, others), (["maxTurns", "models"], ["port"]))
        several = Configuration(upstreams=(UpstreamSettings(name="a", socket="/a"),))
        self.assertEqual(changed(Configuration(), several), (Configuration(), [], ["upstreams"]))
        self.assertEqual(changed(before, before), (before, [], []))

    def test_names(self) -> None:
        """
        All of them are settings.
        """
        self.assertEqual(LIVE - {setting.name for setting in SETTINGS}, set())

    def test_documented(self) -> None:
        """
        What is told of changes without a restart names just these.
        """
        said = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text()
        named = re.findall(r"`(\w+)`", said.partition("says otherwise: ")[2].partition(". Of others")[0])
        self.assertEqual(sorted(named), sorted(LIVE))
