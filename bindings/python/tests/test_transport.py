"""The connection to the CA: proxies, a client certificate, roots, timeouts. The CA and the servers between are
real, and do not use this library."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import struct
import threading
from pathlib import Path

import pytest
from conftest import env, openssl, verify

import acme_micro as acme

CA = env("ACME_DIRECTORY").split("/")[2]


class Server:
    """Serves connections on a port of this machine, with an event loop on a thread of its own."""

    def __init__(self, serve, **options):
        self.asked = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def connected(reader, writer):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(self, reader, writer)
            writer.close()

        start = asyncio.start_server(connected, "127.0.0.1", 0, **options)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self):
        async def end():
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


async def relay(reader, writer, host, port, **options):
    """Forwards bytes in both directions until one side closes its end."""
    to_reader, to_writer = await asyncio.open_connection(host, port, **options)

    async def pass_on(source, target):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

    ways = [asyncio.ensure_future(pass_on(reader, to_writer)),
            asyncio.ensure_future(pass_on(to_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        to_writer.close()


async def connect_proxy(server, reader, writer):
    """RFC 9110 section 9.3.6, for "user" and "pass word"."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, target, _ = head.split(" ", 2)
    assert method == "CONNECT"
    credentials = base64.b64encode(b"user:pass word").decode()
    if f"\r\nProxy-Authorization: Basic {credentials}\r\n" not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return
    server.asked.append(target)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    host, port = target.rsplit(":", 1)
    await relay(reader, writer, host, int(port))


async def socks5_proxy(server, reader, writer):
    """RFC 1928, RFC 1929, for "user" and "pass word"."""
    async def counted():
        return await reader.readexactly((await reader.readexactly(1))[0])

    assert await reader.readexactly(1) == b"\5"
    if 2 not in await counted():
        writer.write(b"\5\xff")
        return
    writer.write(b"\5\2")
    assert await reader.readexactly(1) == b"\1"
    if (await counted(), await counted()) != (b"user", b"pass word"):
        writer.write(b"\1\1")
        return
    writer.write(b"\1\0")
    assert await reader.readexactly(3) == b"\5\1\0"
    if await reader.readexactly(1) == b"\3":
        host = (await counted()).decode()
    else:
        host = ".".join(map(str, await reader.readexactly(4)))
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    server.asked.append(f"{host}:{port}")
    writer.write(b"\5\0\0\1\0\0\0\0\0\0")
    await relay(reader, writer, host, port)


def client(**options) -> acme.Client:
    options.setdefault("ca_file", env("ACME_CA_FILE"))
    options.setdefault("directory_url", env("ACME_DIRECTORY"))
    return acme.Client(
        account_key=acme.PrivateKey.generate(), terms_agreed=True, **options
    )


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(connect_proxy, "http"), (socks5_proxy, "socks5"), (socks5_proxy, "socks5h")],
)
def test_a_certificate_through_a_proxy(serve, standalone, tmp_path, kind, scheme):
    proxy = serve(kind)
    url = f"{scheme}://user:pass%20word@127.0.0.1:{proxy.port}"
    with client(proxy=url) as ca:
        verify(ca.obtain(["proxied.test"], standalone), ["proxied.test"], tmp_path)
    assert set(proxy.asked) == {CA}


@pytest.mark.parametrize(("kind", "scheme"), [(connect_proxy, "http"), (socks5_proxy, "socks5")])
def test_a_proxy_that_refuses_is_named_and_its_password_is_not(serve, kind, scheme):
    proxy = serve(kind)
    with client(proxy=f"{scheme}://user:secret@127.0.0.1:{proxy.port}") as ca:
        with pytest.raises(acme.TransportError) as raised:
            ca.register()
    wanted = f"the proxy 127.0.0.1:{proxy.port}: it refused the user and password"
    assert wanted in str(raised.value)
    assert "secret" not in repr(raised.value)
    assert not proxy.asked


def test_the_environment_is_not_read(serve, monkeypatch):
    proxy = serve(connect_proxy)
    for name in ("ALL_PROXY", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://user:pass%20word@127.0.0.1:{proxy.port}")
    with client() as ca:
        ca.register()
    assert not proxy.asked


def new_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", str(key), "-out", str(cert),
    )
    return cert, key


def test_a_ca_that_requires_a_client_certificate(serve, standalone, tmp_path):
    """A front server requires the certificate, and forwards to Pebble, whose URLs follow the Host field."""
    server, server_key = new_certificate(tmp_path, "front")
    mine, my_key = new_certificate(tmp_path, "exampled")
    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.load_cert_chain(server, server_key)
    front.load_verify_locations(mine)
    front.verify_mode = ssl.CERT_REQUIRED
    behind = ssl.create_default_context(cafile=env("ACME_CA_FILE"))
    host, port = CA.split(":")

    async def to_pebble(served, reader, writer):
        subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
        served.asked.append(subject["commonName"])
        await relay(reader, writer, host, int(port), ssl=behind)

    served = serve(to_pebble, ssl=front)
    where = {"directory_url": f"https://127.0.0.1:{served.port}/dir", "ca_file": server}
    with client(**where) as nobody, pytest.raises(acme.TransportError):
        nobody.register()  # asyncio sends no alert that would tell why
    assert not served.asked
    with client(client_cert_file=mine, client_key_file=my_key, **where) as ca:
        verify(ca.obtain(["mutual.test"], standalone), ["mutual.test"], tmp_path)
    assert set(served.asked) == {"exampled"}


def test_additional_roots(tmp_path):
    other, _ = new_certificate(tmp_path, "other")
    openssl("rehash", str(tmp_path))
    with client(ca_file=None, ca_dir=tmp_path) as ca:
        with pytest.raises(acme.TransportError, match="certificate verify failed"):
            ca.register()
    for roots in ({"ca_dir": tmp_path, "ca_file": None}, {"ca_file": other}):
        with client(extra_ca_file=Path(env("ACME_CA_FILE")), **roots) as ca:
            assert ca.register()


def test_a_request_timeout_and_an_ip_version(serve):
    async def silent(server, reader, writer):
        server.asked.append(await reader.readuntil(b"\r\n"))
        await reader.read()

    quiet = serve(silent)
    with client(
        directory_url=f"http://127.0.0.1:{quiet.port}/", allow_http_loopback=True,
        request_timeout=1.5, ip_version=4,
    ) as ca, pytest.raises(acme.TransportError, match="not done within 1 s"):
        ca.register()
    assert quiet.asked
    with client(ip_version=6) as ca, pytest.raises(acme.TransportError, match="no IPv6 address"):
        ca.register()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"ca_dir": "/nowhere"}, "ca_dir /nowhere: No such file"),
        ({"extra_ca_file": "/dev/null"}, "extra_ca_file /dev/null: is empty"),
        ({"proxy": "http://user:secret@proxy"}, "proxy: has no port"),
        ({"proxy": "gopher://user:secret@proxy:70"}, "proxy: has a scheme"),
        ({"client_cert_file": "/dev/null"}, "go together"),
        ({"request_timeout": 0}, "request_timeout is 0"),
        ({"request_timeout": -1}, "request_timeout is -1"),
        ({"request_timeout": float("nan")}, "request_timeout is nan"),
        ({"request_timeout": float("inf")}, "request_timeout"),
        ({"request_timeout": 3601}, "request_timeout"),
        ({"ip_version": 5}, "ip_version is 5"),
        ({"ip_version": -1}, "ip_version is -1"),
    ],
)
def test_impossible_options_are_refused_at_once(options, wanted):
    with pytest.raises(acme.InvalidArgument) as raised:
        client(**options)
    assert wanted in str(raised.value)
    assert "secret" not in repr(raised.value)
