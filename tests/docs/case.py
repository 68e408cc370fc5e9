"""Shared parts of the tests of pages: compilers, a web server, a DNS server, checks of the results."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from pages import ROOT, changed, run

LIBRARY = ROOT / "target/c/lib/libacme-micro.so.1"
# The environment of a program that uses the Python package.
PACKAGE = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "bindings/python/src"),
    "ACME_MICRO_LIBRARY": str(LIBRARY),
}

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

EXAMPLES = ROOT / "bindings/c-examples"
# In C, pages show these lines before those that are marked.
OPENSSL_HEADER = """#define ACME_MICRO_OPENSSL_IMPLEMENTATION /* in one file of the program */
#include "acme_micro_openssl.h"

"""


def marked(source: Path) -> str:
    """The lines of a smallest example that pages show: those between its two marks."""
    (lines,) = re.findall(r"^\S+ --- begin: automatic HTTPS ---.*?\n(.*?)^\S+ --- end ---", source.read_text(), re.M | re.S)
    return lines


def function_length(text: str) -> int:
    """The number of lines of automatic_https() that are not blank."""
    (function,) = re.findall(r"^[^\n]*automatic_https\(.*?^}$", text, re.M | re.S)
    return sum(bool(line.strip()) for line in function.splitlines())


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

    def program_cpp(self, source: str, *flags: str) -> Path:
        file = self.folder / "program.cpp"
        file.write_text(source)
        strict = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-I", ROOT / "include"]
        run("clang++", *strict, "-fsyntax-only", file)
        run(
            "g++", *strict, file, "-o", self.folder / "program", "-L", LIBRARY.parent,
            f"-Wl,-rpath,{LIBRARY.parent}", "-lacme-micro", *flags,
        )  # fmt: skip
        return self.folder / "program"

    def serves_https(self, example: str, name: str) -> None:
        """Runs an example, twice. The second run has the certificate of the first."""
        (self.folder / "listener.h").symlink_to(EXAMPLES / "listener.h")
        folder = {"/var/lib/acme": str(self.folder / "acme")}
        build = self.program_cpp if example.endswith(".cpp") else self.program_c
        program = build(changed((EXAMPLES / example).read_text(), **folder), "-lssl", "-lcrypto")
        port = os.environ["PEBBLE_TLS_PORT"]
        serials = set()
        for _ in range(2):
            with subprocess.Popen([program, name, port]) as server:
                try:
                    serials.add(self.serial_of(name, port, server))
                finally:
                    server.terminate()
        self.assertEqual(len(serials), 1, "a restart has ordered another certificate")

    def serial_of(self, name: str, port: str, server: subprocess.Popen) -> str:
        """The serial number of the server's certificate, as the openssl command sees it, once it is valid."""
        client = [
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
            "-CAfile", os.environ["PEBBLE_ROOT"], "-verify_return_error", "-verify_hostname", name,
        ]  # fmt: skip
        until = time.monotonic() + 300
        while True:
            self.assertIsNone(server.poll(), "the server has ended")
            seen = subprocess.run(client, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if seen.returncode == 0:
                return subprocess.run(
                    ["openssl", "x509", "-noout", "-serial"], input=seen.stdout, capture_output=True,
                    text=True, check=True,
                ).stdout  # fmt: skip
            self.assertLess(time.monotonic(), until, f"no certificate is served: {seen.stderr}")
            time.sleep(0.1)

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
        env = {**PACKAGE, **environment}
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
