#!/usr/bin/env python3
"""An HTTPS server on asyncio that obtains its own certificate, and renews it while it serves.

    https_server.py --directory URL [--ca-file FILE] [--agree-terms] [--http-port N] [--https-port N]
                    [--folder DIR] NAME...

A manager does all that concerns the certificate. Plain HTTP serves the CA's requests (http-01). HTTPS works as
soon as the certificate arrives; open connections keep the old one after a renewal. SIGHUP renews it now, for
trials.

The account's key, the certificate and its key are in DIR, and the next run uses them again. After the server was
killed, it continues with the same order.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import acme_micro as acme


async def answer_http(
    solver: acme.MemoryHttp01, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serves plain HTTP: challenges, and nothing else."""
    try:
        request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        body = solver.answer(request.decode("latin-1").split(" ")[1])
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


def tell(event: acme.ManagerEvent) -> None:
    if event.error is not None:
        print(f"failed: {event.error}", flush=True)
    if event.certificate is not None:
        end = event.certificate.not_after
        print(f"certificate {event.certificate.serial} until {end:%Y-%m-%d %H:%M}", flush=True)


async def serve(options: argparse.Namespace, ca: acme.AsyncClient) -> None:
    solver = acme.MemoryHttp01()
    async with acme.AsyncManager(ca, solver, on_event=tell) as manager:
        manager.add(options.names)
        tls = manager.ssl_context(default=options.names[0])
        await asyncio.start_server(lambda *streams: answer_http(solver, *streams), None, options.http_port)
        await asyncio.start_server(answer_https, None, options.https_port, ssl=tls)
        print(f"serving on port {options.https_port}", flush=True)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, manager.renew, options.names[0])
        await manager.run()


async def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--ca-file")
    parser.add_argument("--agree-terms", action="store_true")
    parser.add_argument("--http-port", type=int, default=80)
    parser.add_argument("--https-port", type=int, default=443)
    parser.add_argument("--folder", type=Path, default=Path("."))
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    store = acme.Store(options.folder)
    async with store.async_client(
        options.directory, ca_file=options.ca_file, terms_agreed=options.agree_terms
    ) as ca:
        await serve(options, ca)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
