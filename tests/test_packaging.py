"""
What is shipped, what is needed, and what the checks make of it.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from unittest import skipUnless

import openai_server
from openai_server.config import markdownTable
from tests.support import SyncCase

CHECKOUT = Path(__file__).parent.parent
SOURCE = Path(openai_server.__file__).parent

#: Packages that are not called like what has to be installed for them.
DISTRIBUTIONS = {
    "backports": ("backports.zstd",),
    "opentelemetry": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "prometheus_client": ("prometheus-client",),
    "zope": ("zope.interface",),
}


def checkModule(name: str) -> ModuleType:
    """
    Return a module of C{.ci}, which is no package.
    """
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def foreignImports() -> set[str]:
    """
    The top-level packages that the shipped modules import.
    """
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"openai_server"}


class DistributionTests(SyncCase):
    """
    The installed distribution.
    """

    def test_version(self) -> None:
        """
        One version, said in one place.
        """
        self.assertEqual(version("openai-server"), openai_server.__version__)

    def test_everyImportIsDeclared(self) -> None:
        """
        Nothing works only because something else happens to bring it along,
        and nothing is installed for nobody.
        """
        parser = configparser.ConfigParser()
        parser.read(CHECKOUT / "setup.cfg")
        named = parser["options"]["install_requires"] + parser["options.extras_require"]["otel"]
        lines = named.splitlines()
        needed = {re.split(r"[\[ ]", line)[0].lower() for line in lines if line and not line.startswith("#")}
        found = {name for each in foreignImports() for name in DISTRIBUTIONS.get(each, (each,))}
        self.assertEqual(found, needed)

    def test_typed(self) -> None:
        """
        Type checkers may rely on our annotations.
        """
        self.assertTrue((SOURCE / "py.typed").is_file())

    def test_pluginImportsNothingOfOurs(self) -> None:
        """
        C{twistd} imports every plugin at each of its starts, whatever it runs;
        and the plugins' folder is no package of anybody's.
        """
        from twisted.plugins import openai_server_plugin  # type: ignore[attr-defined]

        path = Path(openai_server_plugin.__file__)
        code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); import openai_server_plugin; "
        code += "sys.exit(any(n.split('.')[0] in ('openai_server', 'klein', 'msgspec') for n in sys.modules))"
        self.assertEqual(subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode, 0)
        self.assertFalse((CHECKOUT / "src" / "twisted" / "__init__.py").exists())
        self.assertFalse((CHECKOUT / "src" / "twisted" / "plugins" / "__init__.py").exists())

    def test_namespacePackagesAreFound(self) -> None:
        """
        C{find:} would leave the plugin out of the wheel without a word.
        """
        parser = configparser.ConfigParser()
        parser.read(CHECKOUT / "setup.cfg")
        self.assertEqual(parser["options"]["packages"], "find_namespace:")
        self.assertEqual(parser["options.packages.find"]["where"], "src")
        self.assertIn("py.typed", parser["options.package_data"]["openai_server"])


class CheckTests(SyncCase):
    """
    C{.ci/run} and how it counts.
    """

    def test_script(self) -> None:
        """
        It can be run, bash understands it, and it runs the README's commands.
        """
        script = CHECKOUT / ".ci" / "run"
        self.assertTrue(os.access(script, os.X_OK))
        text = script.read_text()
        for command in re.findall(
            r"\.venv/bin/python -m twisted\.trial .*", (CHECKOUT / "README.md").read_text()
        ):
            self.assertIn(command, text)
        self.assertIn(".venv/bin/pip install '.[test]'", text)

    def test_readmeHasTheTableOfSettings(self) -> None:
        """
        As L{openai_server.config.markdownTable} writes it.
        """
        self.assertIn(markdownTable(), (CHECKOUT / "README.md").read_text())

    @skipUnless(os.path.exists("/bin/bash"), "no bash")
    def test_scriptParses(self) -> None:
        """
        Without running any of it.
        """
        done = subprocess.run(["/bin/bash", "-n", str(CHECKOUT / ".ci" / "run")], check=False)
        self.assertEqual(done.returncode, 0)

    def test_tally(self) -> None:
        """
        Summaries of trial, with the status of its process.
        """
        tally = checkModule("tally").tally
        for summary, status, counts in (
            ("PASSED (successes=120)", 0, (120, 0)),
            ("PASSED (skips=1, expectedFailures=2, successes=36)", 0, (38, 0)),
            ("FAILED (skips=1, failures=2, errors=3, successes=36)", 1, (36, 5)),
            ("FAILED (unexpectedSuccesses=1, successes=5)", 1, (5, 1)),
            # A worker of -j that dies leaves a good summary and a bad status.
            ("PASSED (successes=120)", 1, (120, 1)),
            # Killed by the time limit, or by a signal, before the summary.
            ("test_x ... [OK]", 124, (0, 1)),
            ("", 0, (0, 1)),
            # No tests are no success, and neither are skipped ones.
            ("PASSED", 0, (0, 1)),
            ("PASSED (skips=12)", 0, (0, 1)),
            # Somebody's output is not the summary.
            ("PASSED (successes=7) said the test", 0, (0, 1)),
        ):
            self.assertEqual(tally(["Ran 3 tests in 0.1s", summary + "\n"], status), counts, summary)

    def test_tallyTakesTheLastSummary(self) -> None:
        """
        A test that prints one does not count.
        """
        lines = ["PASSED (successes=9)", "FAILED (errors=1, successes=2)", ""]
        self.assertEqual(checkModule("tally").tally(lines, 1), (2, 1))

    def test_lowestVersions(self) -> None:
        """
        Each requirement has one, extras and all.
        """
        lowest = checkModule("lowest").lowest
        named = "    # Why.\n    Twisted[tls] >= 24.10\n    a.b-c>=1 ; os_name == 'x'\n"
        text = f"[options]\ninstall_requires =\n{named}"
        self.assertEqual(list(lowest(text)), ["Twisted==24.10", "a.b-c==1 ; os_name == 'x'"])
        self.assertRaises(ValueError, list, lowest("[options]\ninstall_requires =\n    klein\n"))
        ours = list(lowest((CHECKOUT / "setup.cfg").read_text()))
        self.assertEqual({"klein==24.8", "opentelemetry-sdk==1.30"} - set(ours), set())
