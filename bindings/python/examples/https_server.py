#!/usr/bin/env python3
"""An HTTPS server on asyncio that obtains its own certificate, and renews it while it serves.

    https_server.py --directory URL [--ca-file FILE] [--agree-terms] [--http-port N] [--https-port N]
                    [--folder DIR] [--renew-every SECONDS] NAME...

It starts without a certificate: plain HTTP serves the CA's requests (http-01), and HTTPS starts when the
certificate arrives. The standard library's sni_callback replaces the certificate between two handshakes;
open connections keep the old one. The CA says when to renew (RFC 9773); --renew-every is for trials.

The account's key, the certificate and its key are in DIR, and the next run uses them again. After the
server was killed, it continues with the same order.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from datetime import datetime, timezone
from pathlib import Path

import acme_micro as acme


class Certificates:
    """The server's TLS contexts: each handshake uses the newest certificate."""

    def __init__(self, store: acme.Store, name: str) -> None:
        self.current: ssl.SSLContext | None = None
        # The context of the listener; each handshake changes to the context of the newest certificate.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose
        self._files = store.chain_file(name), store.key_file(name)

    def use_newest(self) -> None:
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        fresh.load_cert_chain(*self._files)
        self.context.load_cert_chain(*self._files)  # for clients that send no name
        self.current = fresh

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if self.current is not None:
            connection.context = self.current


async def answer_http(
    solver: acme.MemoryHttp01, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serves plain HTTP: challenges, and nothing else."""
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
    """Serves the site. The body comes in pieces, so that a download lasts longer than a renewal."""
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
    store: acme.Store,
    ca: acme.AsyncClient,
    options: argparse.Namespace,
    solver: acme.MemoryHttp01,
    certificates: Certificates,
    started: asyncio.Event,
) -> None:
    """Obtains the certificate, and renews it forever. After a failure, the old certificate stays in use."""
    in_use, serial = store.certificate(options.names[0]), None
    failures = renewals = 0  # in a row
    while True:
        error: Exception | None = None
        try:
            renew_now = options.renew_every is not None and serial is not None
            in_use = await store.obtain_async(ca, options.names, solver, renew_now=renew_now)
            if in_use.serial != serial:
                certificates.use_newest()
                serial = in_use.serial
                print(f"certificate {serial} until {in_use.not_after:%Y-%m-%d %H:%M}", flush=True)
                started.set()
            if options.renew_every is not None:
                failures = 0
                await asyncio.sleep(options.renew_every)
                continue
            info = await ca.renewal_info(in_use)
            failures, renewals = 0, renewals + 1
            if not info.is_due:
                renewals = 0
                await sleep_until(min(info.renew_at, info.check_again_at))
                continue
        except (acme.AcmeError, OSError) as failed:
            error = failed
            print(f"failed: {error}", flush=True)
            failures += 1
        await sleep_until(acme.next_try(failures or renewals, error, in_use))


async def sleep_until(moment: datetime) -> None:
    await asyncio.sleep(max(1.0, (moment - datetime.now(timezone.utc)).total_seconds()))


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

    store = acme.Store(options.folder)
    certificates = Certificates(store, options.names[0])
    solver, started = acme.MemoryHttp01(), asyncio.Event()
    if store.certificate(options.names[0]) is not None:  # from the last run
        certificates.use_newest()
        started.set()
    await asyncio.start_server(
        lambda reader, writer: answer_http(solver, reader, writer), None, options.http_port
    )
    async with store.async_client(
        options.directory, ca_file=options.ca_file, terms_agreed=options.agree_terms
    ) as ca:
        fresh = asyncio.create_task(
            keep_fresh(store, ca, options, solver, certificates, started)
        )
        beginning = asyncio.create_task(started.wait())
        await asyncio.wait([fresh, beginning], return_when=asyncio.FIRST_COMPLETED)
        if fresh.done():
            await fresh  # raises the error
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
