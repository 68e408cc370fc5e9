"""The code on the pages for readers, and the tests that run it.

A block of code has a name, the second word behind its fence. The tests compile and run programs unchanged,
against Pebble. They add to fragments only what is necessary to run them.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
import textwrap
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
PAGES = {
    "README": ROOT / "README.md",
    "CONTRIBUTING": ROOT / "CONTRIBUTING.md",
    "python-README": ROOT / "bindings/python/README.md",
    **{guide.stem: guide for guide in GUIDES},
}
CODE = "c cpp python rust sh".split()
# The CA of the tests, and the folder that the pages name.
DIRECTORY = os.environ["ACME_DIRECTORY"]
WEBROOT = "/var/www/html"


def blocks() -> dict[str, str]:
    """The code blocks; keys are page, language and name, such as "renewals python daily"."""
    found = {}
    for page, file in PAGES.items():
        for language, name, text in re.findall(
            r"^```(\w+) ?(\S*)\n(.*?)^```$", file.read_text(), re.M | re.S
        ):
            if language in CODE:
                key = f"{page} {language} {name}"
                assert name and key not in found, f"{key!r}: a name of its own is needed"
                found[key] = text
    return found


BLOCKS = blocks()
TESTED: set[str] = set()


def main(*stems: str) -> None:
    """Runs the tests of a file; fails if a block of these pages has no test."""
    untested = {key for key in BLOCKS if key.split()[0] in stems} - TESTED
    if untested:
        sys.exit(f"not tested: {sorted(untested)}")
    unittest.main()


def shows(*keys: str):
    """Declares the blocks that a test covers; the test gets their text."""
    TESTED.update(keys)

    def decorate(test):
        @functools.wraps(test)
        def run_test(self):
            test(self, *(BLOCKS[key] for key in keys))

        return run_test

    return decorate


def changed(text: str, **more: str) -> str:
    """The block with Pebble instead of Let's Encrypt, and with the replacements in ``more``."""
    text = text.replace("ACME_LETSENCRYPT_STAGING", f'"{DIRECTORY}"')
    text = text.replace("acme.LETSENCRYPT_STAGING", repr(DIRECTORY))
    text = text.replace("DirectoryUrl::LetsEncryptStaging", f'DirectoryUrl::Other("{DIRECTORY}")')
    text = text.replace("--agree-terms", f"--agree-terms --directory {DIRECTORY}")
    for old, new in more.items():
        assert old in text, f"{old!r} is no more in {text}"
        text = text.replace(old, new)
    return text


def is_in_example(text: str, name: str) -> None:
    """Checks that an example of the Python package has this block, with any indentation."""
    example = (ROOT / "bindings/python/examples" / name).read_text()
    depths = {" " * depth for depth in range(0, 12, 4)}
    assert any(textwrap.indent(text, depth) in example for depth in depths), f"{name} has another text than {text}"


def run(*command: object, **more) -> str:
    # A build on a busy machine takes minutes, and waits for the builds of other suites.
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=1800, **more
    )
    if ended.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, command))}: {ended.stdout}{ended.stderr}")
    return ended.stdout
