#!/usr/bin/env python3
"""bindings/python/README.md: its programs run."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import unittest
from pathlib import Path

from case import PACKAGE, Case, web_server
from pages import DIRECTORY, WEBROOT, is_in_example, main, shows

# Definitions that the fragments rely on.
ASYNC = """
from __future__ import annotations
import asyncio
import sys
import urllib.error
import urllib.request
import acme_micro as acme

key = acme.PrivateKey.generate()
"""
# Replaces httpx, which the tests do not need: only the functions that the fragment calls.
HTTPX = """
class Headers(list):
    def multi_items(self):
        return self

class Response:
    def __init__(self, answer):
        self.status_code, self.content = answer.status, answer.read()
        self.headers = Headers(answer.headers.items())

class Http:
    async def request(self, method, url, headers, content):
        request = urllib.request.Request(url, content or None, dict(headers), method=method)
        def send():
            try:
                return Response(urllib.request.urlopen(request))
            except urllib.error.HTTPError as refused:
                return Response(refused)
        return await asyncio.to_thread(send)
"""


class PythonReadme(Case):
    def here(self, text: str) -> str:
        text = text.replace("acme.LETSENCRYPT", repr(DIRECTORY)).replace(WEBROOT, str(self.webroot))
        return text.replace("/var/lib/acme", str(self.folder / "store"))

    @shows("python-README python obtain", "python-README python store")
    def test_obtain(self, obtain, store):
        text = self.here(obtain + store).replace("example.org", "py.readme.test")
        with web_server(self.webroot):
            self.python(text)
        chain, key = self.folder / "py.readme.test.pem", self.folder / "py.readme.test.key"
        self.is_valid(chain, key, "py.readme.test", "www.py.readme.test")
        stored = self.folder / "store/py.readme.test"
        chain, key = stored.with_suffix(".test.chain.pem"), stored.with_suffix(".test.key.pem")
        self.is_valid(chain, key, "py.readme.test", "www.py.readme.test")
        self.is_clean()

    @shows("python-README python manager")
    def test_manager(self, text):
        start = """
import acme_micro as acme

def told(event):
    print(event.type.name, event.name)
    if event.certificate:
        manager.stop()
"""
        text = self.here(text).replace("example.org", "manager.readme.test").replace("=print", "=told")
        with web_server(self.webroot):
            out = self.python(start + text)
        self.assertEqual(out, "OBTAINED manager.readme.test\n")
        stored = str(self.folder / "store/manager.readme.test")
        names = "manager.readme.test", "www.manager.readme.test"
        self.is_valid(Path(f"{stored}.chain.pem"), Path(f"{stored}.key.pem"), *names)
        self.is_clean()

    @shows("python-README python async-manager")
    def test_async_manager(self, text):
        text = self.here(text).replace("example.org", "async-manager.readme.test").replace("=print", "=told")
        text = "".join(f"    {line}\n" for line in text.splitlines())
        program = f"""{ASYNC}
store = acme.Store({str(self.folder / "store")!r})

async def main():
    async def told(event):
        print(event.type.name, event.name)
        await manager.stop()

{text}
asyncio.run(main())
"""
        with web_server(self.webroot):
            out = self.python(program)
        self.assertEqual(out, "OBTAINED async-manager.readme.test\n")
        self.is_clean()

    @shows("python-README python minimal")
    def test_minimal(self, text):
        is_in_example(text, "minimal.py")
        tls_port = os.environ["PEBBLE_TLS_PORT"]
        text = self.here(text).replace("example.org", "minimal.readme.test").replace("443", tls_port)
        file = self.folder / "program.py"
        file.write_text(text.replace("Standalone()", f"Standalone({os.environ['PEBBLE_HTTP_PORT']})"))
        server = subprocess.Popen([sys.executable, file], cwd=self.folder, env=PACKAGE, stderr=subprocess.DEVNULL)
        try:
            self.serial_of("minimal.readme.test", int(tls_port), server)
            context = ssl.create_default_context(cafile=os.environ["PEBBLE_ROOT"])
            with socket.create_connection(("127.0.0.1", int(tls_port)), 10) as plain:
                with context.wrap_socket(plain, server_hostname="minimal.readme.test") as tls:
                    tls.sendall(b"GET /program.py HTTP/1.0\r\n\r\n")
                    page = b"".join(iter(lambda: tls.recv(65536), b""))
            self.assertIn(b"serve_forever", page)
        finally:
            server.kill()
            server.wait()

    @shows("python-README python records")
    def test_records(self, text):
        start = "from __future__ import annotations\nimport secrets, sqlite3, threading\nimport acme_micro as acme\n"
        text = self.here(text).replace("example.org", "records.readme.test")
        text = text.replace("certificates.db", str(self.folder / "certificates.db"))
        with web_server(self.webroot):
            out = self.python(f"{start}{text}\nprint(store.certificate({DIRECTORY!r}, *cert.names).names)\n")
        self.assertEqual(out, "('records.readme.test',)\n")
        self.is_clean()

    @shows("python-README python asyncio")
    def test_asyncio(self, text):
        text = self.here(text).replace("example.org", "async.readme.test")
        text = "".join(f"    {line}\n" for line in text.splitlines())
        program = f"""{ASYNC}
async def main():
    solver = acme.Webroot(sys.argv[1])
{text}
    print(*one.names, *two.names)

asyncio.run(main())
"""
        with web_server(self.webroot):
            out = self.python(program, self.webroot)
        self.assertEqual(out, "a.async.readme.test b.async.readme.test\n")
        self.is_clean()

    @unittest.skipIf(sys.version_info < (3, 10), "the fragment says that it is for Python 3.10")
    @shows("python-README python steps")
    def test_steps(self, text):
        program = f"""{ASYNC}{HTTPX}
{text}

class Site(dict):
    def update(self, paths):
        for path, body in paths.items():
            with open(sys.argv[1] + path, "w") as file:
                file.write(body)
        super().update(paths)

site = Site()
with acme.Client({DIRECTORY!r}, key, terms_agreed=True) as ca:
    print(*asyncio.run(obtain(ca, ["steps.readme.test"], Http(), site)).names, len(site))
"""
        with web_server(self.webroot):
            self.assertEqual(self.python(program, self.webroot), "steps.readme.test 0\n")


if __name__ == "__main__":
    main("python-README")
