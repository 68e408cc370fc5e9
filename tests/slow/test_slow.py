"""A certificate in each language from a slow CA: Pebble sleeps for up to 15 seconds before each validation,
and the web server that it then sends its request to takes 9 more. `make check` runs the same test without
delays and for fewer languages."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bindings/python/tests"))

from outside import env, openssl  # noqa: E402

# Longer than the first six polls of an order, after which its authorizations are fetched.
ANSWER_TAKES_S = int(os.environ.get("SLOW_ANSWER_S", "9"))
LANGUAGES = os.environ.get("SLOW_LANGUAGES", "c cpp rust python asyncio command").split()

PYTHON = """
import asyncio, sys
import acme_micro as acme

language, folder, directory, ca_file, webroot = sys.argv[1:]
name, solver = f"{language}.slow.test", acme.Webroot(webroot)


async def obtain(store):
    async with store.async_client(directory, terms_agreed=True, ca_file=ca_file) as client:
        await store.obtain_async(client, [name], solver)


with acme.Store(folder) as store:
    if language == "asyncio":
        asyncio.run(obtain(store))
    else:
        with store.client(directory, terms_agreed=True, ca_file=ca_file) as client:
            store.obtain(client, [name], solver)
"""


class Web:
    """Serves a folder for every name, slowly; records the paths that did not exist."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.missing: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(ANSWER_TAKES_S)
                try:
                    body = (web.folder / self.path.lstrip("/")).read_bytes()
                except OSError:
                    body = b""
                    web.missing.append(self.path)
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", int(env("PEBBLE_HTTP_PORT"))), Handler)
        threading.Thread(target=self.server.serve_forever).start()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    web = Web(folder)
    yield web
    web.server.shutdown()
    web.server.server_close()


def command(language: str, folder: Path, web: Path) -> list[str]:
    """The program in this language, which writes a chain into the folder."""
    directory, ca_file = env("ACME_DIRECTORY"), env("ACME_CA_FILE")
    name = f"{language}.slow.test"
    programs = ROOT / "target/c"
    if language == "c":
        ca = ["--directory", directory, "--ca-file", ca_file, "--agree-terms"]
        return [str(programs / "obtain"), *ca, "--webroot", str(web), "--out", str(folder), name]
    if language == "cpp":
        return [str(programs / "obtain-cpp"), directory, str(web), str(folder), name]
    if language == "rust":
        return ["cargo", "test", "--offline", "--quiet", "--test", "slow"]
    if language == "command":
        ca = ["--directory", directory, "--ca-file", ca_file, "--agree-terms"]
        return [sys.executable, "-m", "acme_micro", "obtain", "--folder", str(folder), *ca,
                "-d", name, "--webroot", str(web)]  # fmt: skip
    return [sys.executable, "-c", PYTHON, language, str(folder), directory, ca_file, str(web)]


def test_each_language_waits_for_a_slow_validation(tmp_path: Path, web: Web) -> None:
    running = {}
    for language in LANGUAGES:
        folder = tmp_path / language
        folder.mkdir(mode=0o700)
        chain = str(folder / "rust.chain.pem")
        environment = {**os.environ, "SLOW_WEBROOT": str(web.folder), "SLOW_CHAIN": chain}
        running[language] = subprocess.Popen(
            command(language, folder, web.folder),
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    said = {language: program.communicate(timeout=200)[0] for language, program in running.items()}

    for language, program in running.items():
        assert program.returncode == 0, f"{language}: {said[language]}"
        (chain,) = (path for path in (tmp_path / language).rglob("*chain.pem"))
        openssl("verify", "-CAfile", env("PEBBLE_ROOT"), "-untrusted", str(chain), str(chain))
        shown = openssl("x509", "-in", str(chain), "-noout", "-ext", "subjectAltName")
        assert f"DNS:{language}.slow.test" in shown
    # No challenge was removed while the CA validated it, and none is left.
    assert web.missing == []
    assert [path for path in web.folder.rglob("*") if path.is_file()] == []
    # Each challenge had one response.
    responses = Path(env("PEBBLE_LOG")).read_text().count("POST /chalZ/ -> calling handler")
    assert responses == len(LANGUAGES)
