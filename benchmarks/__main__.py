"""
C{python -m benchmarks [--quick] [--json FILE]}: see L{benchmarks}.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import RELAY, SERVER, VOLATILE, Rounds, summary, table
from benchmarks.load import LoadError
from benchmarks.processes import Run, StartError, Target
from benchmarks.scenarios import EACH, FULL, ONCE, QUICK, Figures, Size, isFor

#: Seconds after which a run is given up.
_LIMIT = 900


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, in less than a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    parser.add_argument("--rounds", type=int, help="how many rounds; the medians are shown")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"of {', '.join(EACH)}, held")
    targets = f"{SERVER},{RELAY},{VOLATILE}"
    parser.add_argument("--targets", default=targets, help="what to measure: %(default)s")
    return parser.parse_args(arguments)


def measured(run: Run, options: argparse.Namespace) -> Rounds:
    """
    Start everything, and go round.
    """
    size = QUICK if options.quick else FULL
    run.startDaemon()
    targets = [run.start(name) for name in options.targets.split(",")]
    rounds: Rounds = {target.name: {} for target in targets}
    once = {name: measure for name, measure in ONCE.items() if name == "warm-up" or _isWanted(options, name)}
    each = {name: measure for name, measure in EACH.items() if _isWanted(options, name)}
    _goRound(targets, once, size, rounds)
    for number in range(options.rounds or size.rounds):
        # Who comes first alternates, so that neither always meets the other's leftovers.
        _goRound(targets[:: -1 if number % 2 else 1], each, size, rounds)
    return rounds


def _isWanted(options: argparse.Namespace, name: str) -> bool:
    return not options.only or name in options.only


def _goRound(
    targets: Sequence[Target],
    scenarios: dict[str, Callable[[Target, Size], Figures]],
    size: Size,
    rounds: Rounds,
) -> None:
    for name, measure in scenarios.items():
        for target in [each for each in targets if isFor(each.name, name)]:
            _progress(f"{name}, {target.name}")
            try:
                figures = measure(target, size)
            except (LoadError, OSError) as reason:
                raise LoadError(f"{name}, {target.name}: {reason}") from reason
            for figure, value in figures.items():
                rounds[target.name].setdefault(figure, []).append(value)
    _progress("")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def document(rounds: Rounds, usage: dict[str, dict[str, float]]) -> dict[str, Any]:
    """
    All that is known of a run.
    """
    return {
        "python": platform.python_version(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "figures": summary(rounds),
        "processes": usage,
    }


def _giveUp(*signal: object) -> None:
    # An exception, so that the processes are stopped on the way out.
    raise LoadError("the run was ended from outside, or took too long")


def main(arguments: Sequence[str]) -> int:
    """
    @return: the exit code: 0, or 1 when something went wrong; not whether the
        aims were met.
    """
    options = parsed(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000) if hard > 0 else 20_000, hard))
    signal.signal(signal.SIGTERM, _giveUp)
    signal.signal(signal.SIGALRM, _giveUp)
    signal.alarm(_LIMIT)
    run = Run()
    try:
        with run:
            rounds = measured(run, options)
            signal.alarm(0)
    except (LoadError, StartError, KeyboardInterrupt) as reason:
        print(f"no figures: {reason}", file=sys.stderr)
        return 1
    found = document(rounds, run.usage)
    print(table(found["figures"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
