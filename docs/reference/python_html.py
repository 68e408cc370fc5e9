#!/usr/bin/env python3
"""Writes the Python reference with pdoc; a warning is an error.

  python_html.py FOLDER
"""

import re
import sys
import warnings
from pathlib import Path

import pdoc

import acme_micro
from acme_micro import _handle

# Import now the names that the package imports at their first use.
for name in acme_micro.__all__:
    setattr(acme_micro, name, getattr(acme_micro, name))
# A private annotation for type checkers, which does not exist at run time.
_handle._Pointer = list  # type: ignore

# Show the members that a class inherits from a private class as its own members.
classes = {c.__name__: c for c in vars(acme_micro).values() if isinstance(c, type)}
for public in classes.values():
    for base in public.__mro__[1:]:
        if base.__module__.startswith("acme_micro.") and base.__name__ not in classes:
            for name, member in vars(base).items():
                if not name.startswith("_") and name not in vars(public):
                    setattr(public, name, member)

warnings.simplefilter("error")
pdoc.render.configure(docformat="restructuredtext")
pdoc.pdoc("acme_micro", output_directory=Path(sys.argv[1]))

# A link to an inherited member leads to its description in the base class.
page = Path(sys.argv[1]) / "acme_micro.html"
text = page.read_text(encoding="utf-8")
anchors = set(re.findall(r'id="([\w.]+)"', text))


def described(link: re.Match[str]) -> str:
    owners = [c.__name__ for c in classes[link[1]].__mro__] if link[1] in classes else [link[1]]
    found = [f"{owner}.{link[2]}" for owner in owners if f"{owner}.{link[2]}" in anchors]
    return f'href="#{found[0] if found else link[1] + "." + link[2]}"'


page.write_text(re.sub(r'href="#(\w+)\.(\w+)"', described, text), encoding="utf-8")
