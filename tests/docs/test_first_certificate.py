#!/usr/bin/env python3
"""docs/guides/first-certificate.md: each program gets its certificate."""

from __future__ import annotations

import os
from pathlib import Path

from case import EXAMPLES, OPENSSL_HEADER, Case, function_length, marked, web_server
from pages import ROOT, WEBROOT, changed, main, run, shows


class FirstCertificate(Case):
    def names(self, language: str) -> list[str]:
        return [f"{language}.guides.test", f"www.{language}.guides.test"]

    @shows("first-certificate sh folder")
    def test_folder(self, text):
        run("bash", "-ec", changed(text, **{WEBROOT: str(self.folder / "new")}))
        self.assertTrue((self.folder / "new/.well-known/acme-challenge").is_dir())

    @shows("first-certificate sh command")
    def test_command(self, text):
        names = {WEBROOT: str(self.webroot), "example.org": self.names("sh")[0]}
        with web_server(self.webroot):
            out = self.shell(changed(text, **names))
        self.assertRegex(out, r"(?m)^sh\.guides\.test +")
        (chain,) = (self.folder / "acme").glob("*/sh.guides.test.chain.pem")
        (key,) = (self.folder / "acme").glob("*/sh.guides.test.key.pem")
        self.is_valid(chain, key, *self.names("sh"))
        self.is_clean()

    @shows("first-certificate c manage", "first-certificate cpp manage", "first-certificate rust manage")
    def test_manage(self, c, cpp, rust):
        """test_readme.py runs minimal.c, and `make test-rust` runs tests/minimal.rs."""
        self.assertEqual(c, OPENSSL_HEADER + marked(EXAMPLES / "minimal.c"))
        self.assertEqual(cpp, marked(EXAMPLES / "minimal.cpp"))
        self.assertEqual(rust, marked(ROOT / "tests/minimal.rs"))
        self.assertLessEqual(function_length(c), 25)
        self.assertLessEqual(function_length(cpp), 15)
        self.assertLessEqual(function_length(rust), 12)
        self.serves_https("minimal.cpp", "manage.guides.test")

    @shows("first-certificate c program", "first-certificate sh build")
    def test_c(self, text, build):
        self.program_c(changed(text, **{WEBROOT: str(self.webroot)}))
        # As on the page, the library is installed, but in a folder that ldconfig does not know.
        (self.folder / "first.c").write_text(changed(text, **{WEBROOT: str(self.webroot)}))
        usr = self.folder / "usr"
        run("make", "install", f"PREFIX={usr}", cwd=ROOT)
        found = {"PKG_CONFIG_PATH": f"{usr}/lib/pkgconfig", "LD_LIBRARY_PATH": f"{usr}/lib"}
        names = self.names("c")
        build = changed(build, **{"example.org www.example.org": " ".join(names)})
        with web_server(self.webroot):
            for _ in range(2):  # the second run finds its certificate
                out = run("bash", "-ec", build, cwd=self.folder, env={**os.environ, **found})
                self.assertRegex(out, rf"^(www\.)?{names[0]}: \d+ days left$")
        stored = self.folder / "certificates"
        self.is_valid(stored / f"{names[0]}.chain.pem", stored / f"{names[0]}.key.pem", *names)
        self.is_clean()

    @shows("first-certificate python program")
    def test_python(self, text):
        text = changed(text, **{WEBROOT: str(self.webroot), "example.org": self.names("python")[0]})
        with web_server(self.webroot):
            chain, key, days = self.python(text).split()
            self.assertGreater(int(days), 1)
            before = (self.folder / chain).read_text()
            self.python(text)
        self.assertEqual((self.folder / chain).read_text(), before, "renewed without need")
        self.is_valid(self.folder / chain, self.folder / key, *self.names("python"))
        self.is_clean()

    @shows("first-certificate rust program")
    def test_rust(self, text):
        text = changed(
            text,
            **{
                WEBROOT: str(self.webroot),
                '"example.org"': '"rust.guides.test"',
                '"www.example.org"': '"www.rust.guides.test"',
            },
        )
        program = self.program_rust(text)
        with web_server(self.webroot):
            for _ in range(2):
                self.assertRegex(run(program, cwd=self.folder), r"^chain.pem: \d+ days left$")
        self.is_valid(self.folder / "chain.pem", self.folder / "key.pem", *self.names("rust"))
        self.is_clean()


if __name__ == "__main__":
    main("first-certificate")
