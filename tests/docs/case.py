"""Shared parts of the tests of pages: compilers, a web server, a DNS server, checks of the results."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import sys
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

from pages import ROOT, run

LIBRARY = ROOT / "target/c/lib/libacme-micro.so.1"

# For fragments in C: challenges are files below root.
PUT_C = """
#include <stdlib.h>
#include <string.h>

static const char *root;

static int put(const acme_challenge_t *challenge, void *user)
{
    char path[1024];
    FILE *file;

    (void)user;
    snprintf(path, sizeof path, "%s%s", root, challenge->http_path);
    if (!(file = fopen(path, "w")))
        return -1;
    fputs(challenge->key_authorization, file);
    return fclose(file);
}
"""


@contextlib.contextmanager
def web_server(folder: Path):
    """Serves the folder on the port on which Pebble validates http-01."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("", int(os.environ["PEBBLE_HTTP_PORT"])), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@functools.cache
def crate() -> Path:
    """The folder with the crate's library, for linking Rust programs."""
    run("cargo", "build", "--quiet", "--lib", cwd=ROOT)
    return ROOT / "target/debug"


COMMAND = f"""#!/bin/sh
exec env PYTHONPATH='{ROOT}/bindings/python/src' ACME_MICRO_LIBRARY='{LIBRARY}' \\
    '{sys.executable}' -m acme_micro "$@" --folder "$ACME_FOLDER"
"""


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.webroot = self.folder / "html"
        (self.webroot / ".well-known/acme-challenge").mkdir(parents=True)
        self.tools = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "ACME_FOLDER": f"{self.folder}/acme"}
        self.tool("acme-micro", COMMAND)

    def tool(self, name: str, text: str) -> None:
        """Puts a program on the PATH of the blocks."""
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def shell(self, text: str) -> str:
        """Runs the commands, with these programs on the PATH."""
        return run("bash", "-ec", text, cwd=self.folder, env={**os.environ, **self.tools})

    def program_c(self, source: str, *flags: str) -> Path:
        file = self.folder / "program.c"
        file.write_text(source)
        strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", ROOT / "include"]
        run("clang", *strict, "-fsyntax-only", file)
        run(
            "gcc", *strict, file, "-o", self.folder / "program", "-L", LIBRARY.parent,
            f"-Wl,-rpath,{LIBRARY.parent}", "-lacme-micro", *flags,
        )  # fmt: skip
        return self.folder / "program"

    def program_rust(self, source: str) -> Path:
        file = self.folder / "program.rs"
        file.write_text(source)
        built = crate()
        run(
            "rustc", "--edition", "2024", "-D", "warnings", file, "-o", self.folder / "program",
            "--extern", f"acme_micro={built}/libacme_micro.rlib", "-L", f"dependency={built}/deps",
        )  # fmt: skip
        return self.folder / "program"

    def python(self, source: str, *arguments: object, **environment: str) -> str:
        file = self.folder / "program.py"
        file.write_text(source)
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "bindings/python/src"),
            "ACME_MICRO_LIBRARY": str(LIBRARY),
            **environment,
        }
        return run(sys.executable, "-W", "error", file, *arguments, cwd=self.folder, env=env)

    def is_valid(self, chain: Path, key: Path, *names: str) -> None:
        """Checks that the chain leads to Pebble's root, is for these names, and belongs to the key."""
        for name in names:
            run(
                "openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-verify_hostname", name,
                "-untrusted", chain, chain,
            )  # fmt: skip
        public = run("openssl", "x509", "-in", chain, "-noout", "-pubkey")
        self.assertEqual(public, run("openssl", "pkey", "-in", key, "-pubout"))
        self.assertEqual(key.stat().st_mode & 0o077, 0, f"others may read {key}")

    def is_clean(self) -> None:
        """Checks that all challenges have been removed."""
        self.assertEqual(list((self.webroot / ".well-known/acme-challenge").iterdir()), [])


# The program that the guide leaves to the reader. The DNS server can only remove all values of a name.
DNS_RECORD = f"""#!{sys.executable}
import json, os, sys, urllib.request
verb, name, value = sys.argv[1:]
url = os.environ["PEBBLE_CHALLTESTSRV"] + {{"add": "/set-txt", "remove": "/clear-txt"}}[verb]
body = {{"host": name + ".", "value": value}}
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())).close()
print(verb, name, value, file=open(os.environ["DNS_LOG"], "a"))
"""


class DnsCase(Case):
    def setUp(self) -> None:
        super().setUp()
        self.tool("dns-record", DNS_RECORD)
        self.log = self.folder / "dns.log"
        self.log.touch()
        self.tools["DNS_LOG"] = str(self.log)

    def taken_down(self) -> list[str]:
        """The records that were added; checks that each has been removed."""
        lines = [line.split(" ", 1) for line in self.log.read_text().splitlines()]
        added = sorted(record for verb, record in lines if verb == "add")
        self.assertEqual(added, sorted(record for verb, record in lines if verb == "remove"))
        return [record.split()[0] for record in added]
