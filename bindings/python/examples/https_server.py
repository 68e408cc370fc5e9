#!/usr/bin/env python3
"""An HTTPS server on asyncio that gets its own certificate, and renews it while it serves.

    https_server.py --directory URL [--ca-file FILE] [--agree-terms] [--http-port N] [--https-port N]
                    [--folder DIR] [--renew-every SECONDS] NAME...

It starts without a certificate: plain HTTP answers the CA (http-01), and HTTPS begins when there is one.
A renewal is swapped in between two handshakes, by the standard library's sni_callback; connections
that are open keep theirs. --renew-every is for trying that out; without it the CA says when (RFC 9773).

Account key, certificate and its key are kept in DIR, and used again by the next run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import acme_micro as acme


class Certificates:
    """The server's TLS: always the newest certificate, for handshakes that begin from now on."""

    def __init__(self) -> None:
        self.current: ssl.SSLContext | None = None
        # What listens; each handshake is moved on to the current certificate's.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose

    def use(self, certificate: acme.Certificate, key: acme.PrivateKey) -> None:
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(fresh, certificate, key)
        load(self.context, certificate, key)  # for clients that send no name
        self.current = fresh

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if self.current is not None:
            connection.context = self.current


def load(context: ssl.SSLContext, certificate: acme.Certificate, key: acme.PrivateKey) -> None:
    # The ssl module reads files only; this one is readable by nobody else, and gone at once.
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key.pem + certificate.chain_pem)
        file.flush()
        context.load_cert_chain(file.name)


def store(path: Path, text: str) -> None:
    """All of it or what was there before; readable by us only."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except OSError:
            os.unlink(file.name)
            raise


async def answer_http(
    solver: acme.MemoryHttp01, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """The plain HTTP side: challenges, and nothing else."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        body = solver.answer(head.decode("latin-1").split(" ")[1])
        status = "404 Not Found" if body is None else "200 OK"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body or b'')}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + (body or b""))
        await writer.drain()
    except (OSError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError,
            asyncio.TimeoutError):  # fmt: skip
        pass
    finally:
        writer.close()


async def answer_https(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The site: its body comes in pieces, so that a download outlasts a renewal."""
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        pieces = [b"hello over TLS\n"] * 10
        length = sum(map(len, pieces))
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        pass
    finally:
        writer.close()


async def keep_fresh(
    ca: acme.AsyncClient,
    options: argparse.Namespace,
    solver: acme.MemoryHttp01,
    certificates: Certificates,
    certificate: acme.Certificate | None,
    started: asyncio.Event,
) -> None:
    """Obtains, and renews for ever. A failure leaves the certificate that is in use in place."""
    failures = 0
    while True:
        try:
            wanted = {name.lower() for name in options.names}
            if certificate and set(certificate.names) == wanted and options.renew_every is None:
                info = await ca.renewal_info(certificate)
                if not info.is_due:
                    next_look = min(info.renew_at, info.check_again_at)
                    await sleep_until(next_look)
                    continue
            fresh = await ca.obtain(options.names, solver, replaces=certificate)
            assert fresh.key is not None
            certificates.use(fresh, fresh.key)
            certificate, failures = fresh, 0
            print(f"certificate {fresh.serial} until {fresh.not_after:%Y-%m-%d %H:%M}", flush=True)
            started.set()
            store(options.folder / "server.pem", fresh.key.pem + fresh.chain_pem)
            if options.renew_every is not None:
                await asyncio.sleep(options.renew_every)
        except (acme.AcmeError, OSError) as error:
            failures += 1
            print(f"failed: {error}", flush=True)
            later = datetime.now(timezone.utc) + timedelta(minutes=10 ** min(failures - 1, 3))
            await sleep_until(max(later, getattr(error, "retry_at", None) or later))


async def sleep_until(moment: datetime) -> None:
    await asyncio.sleep(max(1.0, (moment - datetime.now(timezone.utc)).total_seconds()))


def stored(path: Path, certificates: Certificates) -> acme.Certificate | None:
    """The certificate of the last run, in use again; None: there is none that can be used."""
    try:
        text = path.read_text()
        at = text.index("-----BEGIN CERTIFICATE-----")
        certificate = acme.Certificate.parse(text[at:])
        certificates.use(certificate, acme.PrivateKey.parse(text[:at]))
        return certificate
    except FileNotFoundError:
        return None
    except (OSError, ValueError, acme.AcmeError) as error:
        print(f"{path}: {error}", flush=True)
        return None


async def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--ca-file")
    parser.add_argument("--agree-terms", action="store_true")
    parser.add_argument("--http-port", type=int, default=80)
    parser.add_argument("--https-port", type=int, default=443)
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("--renew-every", type=float)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()

    solver, certificates, started = acme.MemoryHttp01(), Certificates(), asyncio.Event()
    before = stored(options.folder / "server.pem", certificates)
    if before is not None:
        started.set()
    key = acme.PrivateKey.load_or_generate(options.folder / "account.pem")
    await asyncio.start_server(
        lambda reader, writer: answer_http(solver, reader, writer), None, options.http_port
    )
    async with acme.AsyncClient(
        options.directory, key, ca_file=options.ca_file, terms_agreed=options.agree_terms
    ) as ca:
        fresh = asyncio.create_task(
            keep_fresh(ca, options, solver, certificates, before, started)
        )
        beginning = asyncio.create_task(started.wait())
        await asyncio.wait([fresh, beginning], return_when=asyncio.FIRST_COMPLETED)
        if fresh.done():
            await fresh  # which raises why it ended
        await asyncio.start_server(
            answer_https, None, options.https_port, ssl=certificates.context
        )
        print(f"serving on port {options.https_port}", flush=True)
        await fresh


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
