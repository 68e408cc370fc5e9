#!/usr/bin/env python3
"""Every page with code has a test file, and README.md names every guide."""

from __future__ import annotations

import re
import subprocess
import unittest
from pathlib import Path

from pages import BLOCKS, GUIDES, ROOT


class Pages(unittest.TestCase):
    def test_code(self):
        tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
        tested = set(re.findall(r'^    main\("(.*)"\)$', tests, re.M))
        self.assertEqual({key.split()[0] for key in BLOCKS} - tested, set())

    def test_rust_is_formatted(self):
        for key, text in BLOCKS.items():
            if key.split()[1] == "rust":
                rustfmt = ["rustfmt", "--edition=2024", "--check", f"--config-path={ROOT}/rustfmt.toml"]
                ended = subprocess.run(rustfmt, input=text, capture_output=True, text=True)
                self.assertEqual(ended.returncode, 0, f"{key}: {ended.stdout}{ended.stderr}")

    def test_guides(self):
        readme = (ROOT / "README.md").read_text()
        for page in GUIDES:
            self.assertIn(f"({page.relative_to(ROOT)})", readme)


if __name__ == "__main__":
    unittest.main()
