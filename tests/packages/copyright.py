#!/usr/bin/env python3
"""copyright.py TREE: checks that debian/copyright of the source package TREE has each crate's licence."""

import fnmatch
import re
import sys
from pathlib import Path

# Licences in debian/copyright for each licence in a crate's Cargo.toml. For crates without code,
# debian/copyright leaves out licences that are not needed.
EITHER = "Expat or Apache-2.0"
LICENSES = {
    "MIT": ["Expat"],
    "Apache-2.0": ["Apache-2.0"],
    "MPL-2.0": ["MPL-2.0"],
    "MIT OR Apache-2.0": [EITHER],
    "MIT/Apache-2.0": [EITHER],
    "Apache-2.0 OR MIT": [EITHER],
    "Unlicense OR MIT": ["Unlicense or Expat"],
    "Zlib OR MIT OR Apache-2.0": ["Zlib or Expat or Apache-2.0"],
    "BSD-2-Clause OR Apache-2.0 OR MIT": [EITHER],
    "EPL-2.0 OR Apache-2.0": ["Apache-2.0"],
    "MIT OR Apache-2.0 OR LGPL-2.1-or-later": [EITHER],
    "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT": [EITHER],
    "(MIT OR Apache-2.0) AND Unicode-3.0": ["(Expat or Apache-2.0) and Unicode-3.0"],
}

tree = Path(sys.argv[1])
paragraphs = []
for paragraph in (tree / "debian/copyright").read_text().split("\n\n"):
    found = re.match(r"Files: (.*?)\nCopyright: .*\nLicense: (.*)", paragraph, re.S)
    if found:
        paragraphs += [(pattern, found[2].strip()) for pattern in found[1].split()]

wrong = []
crates = sorted((tree / "vendor").iterdir())
for crate in crates:
    says = re.search(r'^license = "\s*(.*?)\s*"', (crate / "Cargo.toml").read_text(), re.M)[1]
    told = [text for pattern, text in paragraphs if fnmatch.fnmatchcase(f"vendor/{crate.name}/x", pattern)]
    last = told[-1] if told else "nothing"  # the last matching entry counts
    if last not in LICENSES.get(says, []):
        wrong.append(f"{crate.name}: Cargo.toml says {says}, debian/copyright {last}")
for pattern, _ in paragraphs:
    if pattern.startswith("vendor/") and not any(
        fnmatch.fnmatchcase(f"vendor/{crate.name}/x", pattern) for crate in crates
    ):
        wrong.append(f"{pattern}: no such crate")
print("\n".join(wrong), end="\n" if wrong else "")
sys.exit(bool(wrong) or not crates)
