#!/usr/bin/env python3
"""Fails when acme_micro.h has something that cannot be reached through acme_micro.hpp."""

from __future__ import annotations

import re
import sys
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[2] / "include"

# What the wrapper does without, and why.
WITHOUT = {
    "acme_obtain": "client::obtain() is acme_begin_order(), acme_op_run() and acme_op_take_cert()",
}


def main() -> int:
    header = code((INCLUDE / "acme_micro.h").read_text())
    used = set(re.findall(r"\w+", code((INCLUDE / "acme_micro.hpp").read_text())))

    functions = set(re.findall(r"\b(acme_\w+)\s*\(", header))
    enumerators = set(re.findall(r"\b(ACME_\w+)\s*=", header))
    members = set()
    for body in re.findall(r"typedef struct \{(.*?)\}", header, re.DOTALL):
        members.update(re.findall(r"(\w+);", body))
    assert len(functions) > 80 and len(enumerators) > 40 and len(members) > 40

    missing = sorted((functions | enumerators | members) - used - set(WITHOUT))
    stale = sorted(set(WITHOUT) - functions)
    for name in missing:
        print(f"acme_micro.hpp lacks {name}")
    for name in stale:
        print(f"{Path(__file__).name} excuses {name}, which does not exist")
    print(f"{len(functions)} functions, {len(enumerators)} numbers, {len(members)} members")
    return 1 if missing or stale else 0


def code(text: str) -> str:
    """The text without comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
