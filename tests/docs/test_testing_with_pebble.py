#!/usr/bin/env python3
"""docs/guides/testing-with-pebble.md: the reader's own tests run."""

from __future__ import annotations

import os
import re
import sys

from case import LIBRARY, Case
from pages import DIRECTORY, ROOT, changed, main, run, shows


class TestingWithPebble(Case):
    @shows("testing-with-pebble sh run", "testing-with-pebble python test")
    def test_run(self, command, text):
        (self.folder / "your_test.py").write_text(text)
        here = {"tests/pebble": f"{ROOT}/tests/pebble", "python3": sys.executable}
        shown = changed(command, **here)
        package = {"PYTHONPATH": f"{ROOT}/bindings/python/src", "ACME_MICRO_LIBRARY": str(LIBRARY)}
        env = {**os.environ, **package}
        self.assertIn("OK", run("bash", "-ec", shown, cwd=self.folder, env=env))

    @shows("testing-with-pebble sh install")
    def test_install(self, text):
        """The page installs the same versions with the same commands as tests/setup."""
        run("bash", "-n", "-c", text)
        setup = (ROOT / "tests/setup").read_text()
        version = re.search(r"^readonly PEBBLE=(\S+)$", setup, re.M)[1]
        self.assertIn('github.com/letsencrypt/pebble/v2/cmd/$program@$1', setup)
        self.assertEqual(re.findall(r"v2/cmd/(\S+)@(\S+)", text),
                         [("pebble", version), ("pebble-challtestsrv", version)])  # fmt: skip

    @shows("testing-with-pebble python record")
    def test_record(self, text):
        told = f"""
{text}
import acme_micro as acme

class Dns:
    challenge_types = ("dns-01",)
    def publish(self, challenges):
        for c in challenges:
            set_txt(c.dns_name, c.dns_value)
    def unpublish(self, challenges):
        pass

with acme.Client({DIRECTORY!r}, acme.PrivateKey.generate(), terms_agreed=True) as ca:
    ca.obtain(["shop.test"], Dns())
"""
        self.python(told)

    def test_variables(self):
        """Pebble knows each of the variables that the guide names."""
        page = (ROOT / "docs/guides/testing-with-pebble.md").read_text()
        pebble = (ROOT / "target/tools/pebble").read_bytes()
        for name in re.findall(r"^\| `(PEBBLE_\w+)=", page, re.M):
            self.assertIn(name.encode(), pebble)


if __name__ == "__main__":
    main("testing-with-pebble")
