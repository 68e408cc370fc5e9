#!/usr/bin/env python3
"""The commands and files that CONTRIBUTING.md names exist."""

from __future__ import annotations

import re
import sys
import unittest

from pages import ROOT, main, run, shows


class Contributing(unittest.TestCase):
    @shows("CONTRIBUTING sh check")
    def test_targets(self, text):
        listed = run("make", "help", cwd=ROOT)
        page = (ROOT / "CONTRIBUTING.md").read_text()
        targets = set(re.findall(r"\bmake ([a-z-]+)", page)) | set(re.findall(r"`(test-[a-z]+)`", page))
        self.assertGreater(len(targets), 6)
        for target in targets:
            self.assertRegex(listed, rf"(?m)^  make {target} ")

    @shows("CONTRIBUTING sh header")
    def test_header(self, text):
        commands = (
            "make header",
            "target/venv/bin/python bindings/python/gen_native.py",
            "python3 tests/cpp/check_wrapper.py --write",
        )
        self.assertEqual(text.splitlines(), list(commands))
        run(sys.executable, ROOT / "bindings/python/gen_native.py", "--check")
        run(sys.executable, ROOT / "tests/cpp/check_wrapper.py")
        self.assertIn("  make header ", run("make", "help", cwd=ROOT))

    def test_a_fresh_clone(self):
        """Targets that need more than Rust and a C compiler run the set-up first."""
        for target in ("deb", "docs", "wheel", "test-buildd"):
            commands = run("make", "--dry-run", "--no-print-directory", target, cwd=ROOT).splitlines()
            self.assertEqual(commands[0], "tests/setup test", target)

    def test_make_alone(self):
        """`make` alone lists the targets, so no page may use it to build something."""
        self.assertEqual(run("make", cwd=ROOT), run("make", "help", cwd=ROOT))
        for page in sorted(ROOT.glob("docs/**/*.md")):
            self.assertNotIn("`make`, `make install`", page.read_text(), page)
            self.assertNotRegex(page.read_text(), r"(?m)^(\w+ && )?make( &&|$)", page)


if __name__ == "__main__":
    main("CONTRIBUTING")
