#!/usr/bin/env python3
"""CONTRIBUTING.md names commands and files that there are."""

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
        self.assertEqual(text, "make header\npython3 bindings/python/gen_native.py\n")
        run(sys.executable, ROOT / "bindings/python/gen_native.py", "--check")
        self.assertIn("  make header ", run("make", "help", cwd=ROOT))


if __name__ == "__main__":
    main("CONTRIBUTING")
