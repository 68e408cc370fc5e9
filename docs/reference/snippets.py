#!/usr/bin/env python3
"""The examples of the C reference: snippets of the programs in examples/.

A snippet stands between two lines `//! [NAME]`. A function's example is the snippet that names it
(`//! [obtain]` is acme_obtain()'s, `//! [op-run op-free]` two functions'), else the shortest in which it
is called.

  snippets.py        writes what Doxygen needs to show them with their functions
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SYMBOLS = ROOT / "abi/libacme-micro.symbols"


class Snippet(NamedTuple):
    file: str
    name: str
    text: str

    def calls(self, function: str) -> bool:
        return re.search(rf"\b{function}\(", self.text) is not None


def snippets() -> list[Snippet]:
    found = []
    for path in sorted((HERE / "examples").glob("*.c")):
        text = path.read_text(encoding="utf-8")
        for name, body in re.findall(r"^ *//! \[(.+?)\]\n(.*?)^ *//! \[\1\]$", text, re.M | re.S):
            found.append(Snippet(path.name, name, textwrap.dedent(body)))
    return found


def versions() -> dict[str, str]:
    """Every exported function, and the version that brought it."""
    lines = SYMBOLS.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line.startswith("acme_"))


def declarations(*headers: str) -> dict[str, str]:
    """The functions that headers declare, and how."""
    found = {}
    for header in headers:
        text = (ROOT / "include" / header).read_text(encoding="utf-8")
        public = text.partition("#if defined(ACME_MICRO_OPENSSL_IMPLEMENTATION)")[0]
        for declaration, name in re.findall(
            r"^(?:ACME_API\s|ACME_MUST_CHECK\s)*([a-z][\w *]*?\b(acme_\w+)\([^;{]*\));", public, re.M
        ):
            found[name] = re.sub(r"\s+", " ", declaration)
    return found


def examples() -> dict[str, Snippet]:
    found = {}
    for function in declarations("acme_micro.h", "acme_micro_openssl.h"):
        calling = [snippet for snippet in snippets() if snippet.calls(function)]
        own = function.removeprefix("acme_").replace("_", "-")
        if calling:
            found[function] = min(calling, key=lambda s: (own not in s.name.split(), s.text.count("\n")))
    return found


def main() -> int:
    declared = declarations("acme_micro.h", "acme_micro_openssl.h")
    for function, snippet in examples().items():
        print(f"/**\n@fn {declared[function]}")
        print(f"@par Example\n@snippet{{trimleft}} {snippet.file} {snippet.name}\n*/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
