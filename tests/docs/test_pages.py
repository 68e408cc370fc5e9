#!/usr/bin/env python3
"""Every page with code has a test file, and every guide is among those that README.md names."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

from pages import BLOCKS, PAGES, ROOT


class Pages(unittest.TestCase):
    def test_code(self):
        tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
        tested = set(re.findall(r'^    main\("(.*)"\)$', tests, re.M))
        self.assertEqual({key.split()[0] for key in BLOCKS} - tested, set())

    def test_guides(self):
        readme = (ROOT / "README.md").read_text()
        for page in PAGES[2:]:
            self.assertIn(f"({page.relative_to(ROOT)})", readme)


if __name__ == "__main__":
    unittest.main()
