#!/usr/bin/env python3
"""Each public name of the Python package has a useful docstring, and is in the HTML."""

import enum
import inspect
import os
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings/python/src"))
os.environ["ACME_MICRO_LIBRARY"] = str(ROOT / "target/c/lib/libacme-micro.so.1")
import acme_micro  # noqa: E402

HTML = (ROOT / "target/doc/python/acme_micro.html").read_text(encoding="utf-8")


def public():
    """Public names and their objects, including members of classes that the package defines."""
    for name in acme_micro.__all__:
        value = getattr(acme_micro, name)
        if not (isinstance(value, type) or inspect.ismodule(value) or inspect.isroutine(value)):
            continue  # a constant, or a name for a type
        yield name, value
        if not isinstance(value, type):
            continue
        for member, found in vars(value).items():
            found = getattr(found, "__func__", found)
            if not member.startswith("_") and (callable(found) or isinstance(found, property)):
                yield f"{name}.{member}", found


class Docstrings(unittest.TestCase):
    def test_each_public_name_has_one(self):
        names = dict(public())
        self.assertGreater(len(names), 140)
        without = [name for name, value in names.items() if len((own_doc(value) or "").split()) < 3]
        self.assertEqual(without, [])

    def test_each_stands_in_the_html(self):
        shown = [name for name, value in public() if not inspect.ismodule(value)]
        # Also members that are inherited from private classes.
        shown += [f"{name}.begin_revoke" for name in ("Client", "AsyncClient")] + ["AsyncClient.begin_order"]
        shown += acme_micro.__all__[:2] + ["Signer", "Step"]
        self.assertEqual([name for name in shown if f'id="{name}"' not in HTML], [])


def own_doc(value):
    """The docstring, unless dataclass or enum made it or one of Python's own classes has it."""
    doc = value.__doc__
    if isinstance(value, type):
        made_up = doc and re.match(rf"{value.__name__}\(", doc)
        return None if made_up or (doc in (enum.Enum.__doc__, enum.IntEnum.__doc__)) else doc
    return doc


if __name__ == "__main__":
    unittest.main()
