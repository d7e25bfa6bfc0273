# -*- test-case-name: tests.test_packaging -*-
"""
The lowest versions that this distribution says it works with.

    python3 .ci/lowest.py setup.cfg > constraints.txt

prints C{name==version}, one a line, for each requirement that C{setup.cfg}
names in C{install_requires} and for users' extras, in the form that C{pip install -c} takes.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from typing import Final

_REQUIREMENT: Final = re.compile(
    r"(?P<name>[\w.-]+)(?:\[[\w, -]+\])? *>= *(?P<version>[\w.]+)(?P<marker> *;.*)?"
)


def lowest(configuration: str) -> Iterator[str]:
    """
    Yield a constraint for each requirement.

    @param configuration: the text of C{setup.cfg}.
    @raise ValueError: a requirement names no lowest version.
    """
    parser = configparser.ConfigParser()
    parser.read_string(configuration)
    extras = parser["options.extras_require"] if parser.has_section("options.extras_require") else {}
    users = [extras.get(name, "") for name in ("postgresql", "otel")]
    named = "\n".join([parser["options"]["install_requires"], *users])
    for line in named.splitlines():
        if line and not line.startswith("#"):
            found = _REQUIREMENT.fullmatch(line)
            if found is None:
                raise ValueError(f"{line}: names no lowest version")
            yield f"{found['name']}=={found['version']}{found['marker'] or ''}"


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print("\n".join(lowest(file.read())))
