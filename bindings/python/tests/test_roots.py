"""Trusted roots: the library trusts what OpenSSL trusts, and gives the same reason when it does not.

Each case has a server with a chain and a file of roots. Python's ssl module, which lets OpenSSL read the whole
file, gives the verdict that the library must give, too. The library decodes only the roots that a chain needs.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from outside import openssl

import acme_micro as acme

SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
MISSING = "unable to get local issuer certificate"
TRUSTED = "ok"


class Pki:
    """Certificates by name, made by the openssl program. A key may have several certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.make("root", "/CN=Test Root")
        self.make("other root of this name", "/CN=Test Root")
        self.make("expired root", "/CN=Test Root", key="root", days="-1")
        self.make("root in other letters", "/O=x/CN=TEST  root", key="root")
        self.make("old root", "/CN=Old Root")
        self.make("cross-signed root", "/CN=Test Root", "old root", key="root")
        self.make("issuer", "/CN=Test Issuer", "root")
        self.make("leaf", "/CN=leaf", "issuer", ca=False)
        self.make("issuer by other letters", "/CN=Test Issuer", "root in other letters", key="issuer")
        self.make("wide root", "/O=x/CN=test root", key="root", wide=True)
        assert "BMPSTRING" in openssl("asn1parse", "-in", folder / "wide root.pem")
        self.make("leaf alone", "/CN=leaf alone", ca=False)

    def make(
        self, name: str, subject: str, by: str = "", *, key: str = "", days: str = "30", ca: bool = True,
        wide: bool = False,
    ) -> None:
        key_file = self.folder / f"{key or name}.key"
        if not key_file.exists():
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key_file)
        config = self.folder / "openssl.cnf"
        config.write_text(
            f"[req]\ndistinguished_name=dn\nstring_mask={'MASK:2048' if wide else 'utf8only'}\n[dn]\n"
            f"[ext]\nbasicConstraints=critical,CA:{'TRUE' if ca else 'FALSE'}\nsubjectKeyIdentifier=hash\n"
            f"subjectAltName=DNS:localhost\n"
        )
        request, out = self.folder / "csr", self.folder / f"{name}.pem"
        openssl("req", "-new", "-config", config, "-subj", subject, "-key", key_file, "-out", request)
        signer = (
            ["-CA", self.folder / f"{by}.pem", "-CAkey", self.key_of(by)] if by else ["-signkey", key_file]
        )
        openssl(
            "x509", "-req", "-in", request, *signer, "-days", days, "-extfile", config, "-extensions", "ext",
            "-set_serial", str(len(list(self.folder.iterdir()))), "-out", out,
        )  # fmt: skip

    def key_of(self, name: str) -> Path:
        own = self.folder / f"{name}.key"
        return own if own.exists() else self.folder / "root.key"

    def pem(self, *names: str) -> str:
        return "".join((self.folder / f"{name}.pem").read_text() for name in names)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@contextmanager
def server(pki: Pki, *chain: str) -> Iterator[str]:
    """An HTTPS server that answers each request with 404. Yields its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = pki.folder / "server.pem"
    pem.write_text(pki.key_of(chain[0]).read_text() + pki.pem(*chain))
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                connection.settimeout(10)
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(4096)
                    tls.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def ask(client: acme.Client) -> str:
    """Connects, and returns OpenSSL's verdict on the server's certificate."""
    with pytest.raises(acme.AcmeError) as failed:
        client.register()
    _, found, verdict = str(failed.value).partition("certificate verify failed: ")
    if not found:
        assert "404" in str(failed.value)
        return TRUSTED
    return verdict.split(";")[0].split(" (")[0].strip()


def our_verdict(url: str, **options: Path) -> str:
    options = {name: str(path) for name, path in options.items()}
    with acme.Client(f"{url}/dir", acme.PrivateKey.generate(), terms_agreed=True, **options) as client:
        return ask(client)


def verdict_of_openssl(url: str, roots: Path | None = None) -> str:
    """The verdict of Python's ssl module, with a file of roots or the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots:
        context.load_verify_locations(roots)
    else:
        context.set_default_verify_paths()
    port = int(url.rpartition(":")[2])
    try:
        with socket.create_connection(("127.0.0.1", port)) as tcp:
            with context.wrap_socket(tcp, server_hostname="localhost"):
                return TRUSTED
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


@pytest.fixture
def no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(empty))


CHAIN = ("leaf", "issuer")
# The server's chain, the roots, and the verdict.
CASES = {
    "root": (CHAIN, ("root",), TRUSTED),
    "no root": (CHAIN, ("old root",), MISSING),
    "two roots of a name": (CHAIN, ("other root of this name", "root"), TRUSTED),
    "two roots of a name, the right one first": (CHAIN, ("root", "other root of this name"), TRUSTED),
    "a wrong root of that name": (CHAIN, ("other root of this name",), None),
    "expired and valid": (CHAIN, ("expired root", "root"), TRUSTED),
    "expired": (CHAIN, ("expired root",), "certificate has expired"),
    "cross-signed, old root": ((*CHAIN, "cross-signed root"), ("old root",), TRUSTED),
    "cross-signed, new root": ((*CHAIN, "cross-signed root"), ("root",), TRUSTED),
    "cross-signed, both": ((*CHAIN, "cross-signed root"), ("old root", "root"), TRUSTED),
    "issuer among the roots": (("leaf",), ("root", "issuer"), TRUSTED),
    "issuer without its root": (("leaf",), ("issuer",), None),
    "leaf without its issuer": (("leaf",), ("root",), None),
    "other letters": (("leaf", "issuer by other letters"), ("root in other letters",), TRUSTED),
    "other letters in the file": (("leaf", "issuer by other letters"), ("wide root",), TRUSTED),
    "trusted by itself": (("leaf alone",), ("leaf alone",), TRUSTED),
    "self-signed": (("leaf alone",), ("root",), None),
}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("case", CASES)
def test_verdicts_are_those_of_openssl(
    case: str, size: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    chain, names, expected = CASES[case]
    half = SYSTEM.read_text() if size == "large" else ""
    roots = tmp_path / "roots.pem"
    roots.write_text(pki.pem(names[0]) + half + pki.pem(*names[1:]))
    with server(pki, *chain) as url:
        verdict = verdict_of_openssl(url, roots)
        assert expected in (None, verdict)
        assert our_verdict(url, ca_file=roots) == verdict
        empty = tmp_path / "none.pem"
        empty.write_text(pki.pem("leaf alone" if "leaf alone" not in chain else "leaf"))
        assert our_verdict(url, ca_file=empty, extra_ca_file=roots) == verdict
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        assert verdict_of_openssl(url) == verdict
        assert our_verdict(url) == verdict
        # The roots of one name may be in two files.
        monkeypatch.setenv("SSL_CERT_FILE", str(empty))
        assert our_verdict(url, extra_ca_file=roots) == verdict


def crlf(pem: str) -> str:
    return pem.replace("\n", "\r\n")


def one_line(pem: str) -> str:
    first, *lines, last = pem.strip().split("\n")
    return f"{first}\n{''.join(lines)}\n{last}"


SHAPES = {
    "CRLF": crlf,
    "comments": lambda pem: f"Test Root\n=========\n{pem}\n# the end",
    "no line break at the end": str.strip,
    "spaces": lambda pem: pem.replace("\n", "  \n"),
    "old label": lambda pem: pem.replace(" CERTIFICATE", " X509 CERTIFICATE"),
    "after another block": lambda pem: "-----BEGIN NOTE-----\nAAAA\n-----END NOTE-----\n" + pem,
    "after a byte order mark": lambda pem: "\N{BYTE ORDER MARK}" + pem,
    "after a long line": lambda pem: "x" * 200_000 + "\n" + pem,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pem_of_any_shape_is_read(
    shape: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    roots = tmp_path / "roots.pem"
    first = "" if "order mark" in shape else pki.pem("old root")
    roots.write_bytes((first + SHAPES[shape](pki.pem("root"))).encode())
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with server(pki, *CHAIN) as url:
        assert our_verdict(url, ca_file=roots) == verdict_of_openssl(url, roots) == TRUSTED
        assert our_verdict(url) == verdict_of_openssl(url) == TRUSTED


BROKEN = {
    "not base64": "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    "not a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "without an end": "-----BEGIN CERTIFICATE-----\nMIIB\n",
    "empty": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "with another end": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END X-----\n",
}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_certificate_does_not_harm_the_others(
    broken: str, size: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    half = SYSTEM.read_text() if size == "large" else ""
    roots = tmp_path / "roots.pem"
    for text in (BROKEN[broken] + pki.pem("root") + half, half + pki.pem("root") + BROKEN[broken]):
        roots.write_text(text)
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        with server(pki, *CHAIN) as url:
            assert our_verdict(url) == TRUSTED
            # An option names this file, so its user is told.
            with pytest.raises(acme.AcmeError, match="ca_file .*has a certificate that cannot be read"):
                our_verdict(url, ca_file=roots)


@pytest.mark.parametrize("reject", ["-addreject", "-addtrust"])
def test_trust_settings_count_in_the_file_of_the_system(
    reject: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    roots = tmp_path / "roots.pem"
    root = pki.folder / "root.pem"
    openssl("x509", "-in", root, reject, "serverAuth", "-trustout", "-out", roots)
    assert "TRUSTED CERTIFICATE" in roots.read_text()
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with server(pki, *CHAIN) as url:
        assert our_verdict(url) == verdict_of_openssl(url)
        assert (our_verdict(url) == TRUSTED) == (reject == "-addtrust")


def test_trust_settings_are_read_again_after_a_replacement(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    def trusting(name: str, *options: str) -> str:
        openssl("x509", "-in", pki.folder / f"{name}.pem", *options, "-trustout", "-out", tmp_path / "trust.pem")
        return (tmp_path / "trust.pem").read_text()

    roots = tmp_path / "roots.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    rejected = trusting("root", "-addreject", "serverAuth") + pki.pem("root")
    trusted = trusting("root", "-addtrust", "serverAuth")
    steps = [pki.pem("root"), rejected, trusted, trusting("old root", "-addtrust", "serverAuth"), trusted]
    roots.write_text(steps[0])
    key = acme.PrivateKey.generate()
    with server(pki, *CHAIN) as url, acme.Client(f"{url}/dir", key) as client:
        verdicts = []
        for text in steps:
            (tmp_path / "next.pem").write_text(text)
            os.replace(tmp_path / "next.pem", roots)
            verdicts.append(ask(client))
            assert verdicts[-1] == verdict_of_openssl(url)
        assert verdicts[0] == verdicts[2] == TRUSTED and TRUSTED not in (verdicts[1], verdicts[3])


def test_a_root_of_a_name_that_has_trust_settings_elsewhere_is_found(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    roots = tmp_path / "roots.pem"
    other = pki.folder / "other root of this name.pem"
    openssl("x509", "-in", other, "-addtrust", "serverAuth", "-trustout", "-out", roots)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with server(pki, *CHAIN) as url:
        assert our_verdict(url) == verdict_of_openssl(url) != TRUSTED
        assert our_verdict(url, extra_ca_file=pki.folder / "root.pem") == TRUSTED


def test_a_crl_in_the_file_changes_nothing(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    (tmp_path / "index.txt").touch()
    (tmp_path / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=ca_section\n[ca_section]\ndatabase={tmp_path}/index.txt\n"
        "default_md=sha256\ndefault_crl_days=30\n"
    )
    crl, roots = tmp_path / "crl.pem", tmp_path / "roots.pem"
    openssl(
        "ca", "-gencrl", "-config", tmp_path / "ca.cnf", "-cert", pki.folder / "root.pem",
        "-keyfile", pki.key_of("root"), "-out", crl,
    )  # fmt: skip
    roots.write_text(crl.read_text() + pki.pem("root"))
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    with server(pki, *CHAIN) as url:
        assert our_verdict(url) == verdict_of_openssl(url) == TRUSTED
        assert our_verdict(url, ca_file=roots) == TRUSTED


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("option", ["ca_file", "extra_ca_file", "SSL_CERT_FILE"])
def test_a_file_that_was_replaced_is_read_again(
    option: str, size: str, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    half = SYSTEM.read_text() if size == "large" else ""
    roots, next_roots, nothing = tmp_path / "roots.pem", tmp_path / "next.pem", tmp_path / "nothing"
    monkeypatch.setenv("SSL_CERT_FILE", str(roots if option == "SSL_CERT_FILE" else nothing))
    options = {} if option == "SSL_CERT_FILE" else {option: str(roots)}

    def replace(text: str) -> None:
        next_roots.write_text(text)
        os.replace(next_roots, roots)

    replace(half + pki.pem("old root"))
    key = acme.PrivateKey.generate()
    with server(pki, *CHAIN) as url, acme.Client(f"{url}/dir", key, **options) as client:
        assert ask(client) == MISSING
        replace(half + pki.pem("root"))
        assert ask(client) == TRUSTED
        replace(half + pki.pem("old root"))
        assert ask(client) == MISSING
        replace(half + pki.pem("root"))
        assert ask(client) == TRUSTED
        # A file that is missing, or damaged for now, is not one that was replaced.
        replace("")
        assert ask(client) == TRUSTED
        replace(half + BROKEN["not base64"])
        assert ask(client) == TRUSTED
        roots.unlink()
        assert ask(client) == TRUSTED


def test_a_file_in_a_pipe_is_read_once(pki: Pki, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=[SYSTEM.read_text() + pki.pem("root")])
    writer.start()
    with server(pki, *CHAIN) as url:
        with acme.Client(f"{url}/dir", acme.PrivateKey.generate(), ca_file=str(pipe)) as client:
            writer.join()
            assert ask(client) == ask(client) == TRUSTED


def test_the_directory_is_used_beside_the_file(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "hashed"
    directory.mkdir()
    (directory / "root.pem").write_text(pki.pem("root"))
    subprocess.run(["openssl", "rehash", directory], check=True)
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    with server(pki, *CHAIN) as url:
        for file in (SYSTEM, tmp_path / "missing"):
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
            assert our_verdict(url) == verdict_of_openssl(url) == TRUSTED


def refusal(url: str, **options: Path) -> str:
    """The message of a client that must refuse the server's certificate."""
    texts = {name: str(path) for name, path in options.items()}
    with acme.Client(f"{url}/dir", acme.PrivateKey.generate(), **texts) as client:
        with pytest.raises(acme.TransportError) as failed:
            client.register()
        return str(failed.value)


@pytest.mark.parametrize("content", [None, "", "# no certificate\n"])
@pytest.mark.parametrize("chain", [CHAIN, ("leaf alone",)])
def test_h37_r20_a_system_without_roots_is_told_what_to_install(
    content: str | None, chain: tuple[str, ...], pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    no_directory: None,
) -> None:
    file = tmp_path / "roots.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with server(pki, *chain) as url:
        empty = os.environ["SSL_CERT_DIR"]
        for directories in ([empty], ["/nowhere", empty]):
            monkeypatch.setenv("SSL_CERT_DIR", ":".join(directories))
            message = refusal(url)
            looked = ":".join([str(file), *directories])
            assert f"this system has no CA certificates (looked in {looked})" in message
            assert "install the package ca-certificates, or set ca_file" in message
        command = [sys.executable, "-m", "acme_micro", "obtain", "-d", "a.test", "--hook", "true"]
        done = subprocess.run(
            [*command, "--directory", f"{url}/dir", "--folder", str(tmp_path / "acme")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 3 and "install the package ca-certificates" in done.stderr, done.stderr


def test_h37_r20_an_unknown_ca_is_not_taken_for_missing_roots(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_directory: None
) -> None:
    other = tmp_path / "other.pem"
    other.write_text(pki.pem("old root"))
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    name = openssl("x509", "-in", str(other), "-noout", "-subject_hash").strip()
    (hashed / f"{name}.0").write_text(other.read_text())
    missing = tmp_path / "missing.pem"
    with server(pki, *CHAIN) as url:
        messages = [refusal(url, ca_file=other), refusal(url, ca_dir=hashed)]
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        messages.append(refusal(url))
        monkeypatch.setenv("SSL_CERT_FILE", str(missing))
        messages.append(refusal(url, extra_ca_file=other))
        monkeypatch.setenv("SSL_CERT_DIR", str(hashed))
        messages.append(refusal(url))
    for message in messages:
        assert message.endswith(MISSING), message


# Connects after chroot(), with a client from before.
CHROOTED = """
import os, sys, traceback
import acme_micro as acme
url, before, *options = sys.argv[1:]
client = acme.Client(url, acme.PrivateKey.generate(), **dict(option.split("=") for option in options))
def connect():
    try:
        client.register()
    except acme.AcmeError as error:
        print(error)
if before == "connect":
    connect()
os.chroot(os.environ["NEW_ROOT"])
os.chdir("/")
connect()
"""


@pytest.mark.parametrize("before", ["nothing", "connect"])
def test_h38_r21_after_chroot_a_small_ca_file_works_and_other_roots_are_named(
    before: str, pki: Pki, tmp_path: Path, no_directory: None
) -> None:
    small, large, system = tmp_path / "small.pem", tmp_path / "large.pem", tmp_path / "system.pem"
    small.write_text(pki.pem("root"))
    large.write_text(pki.pem("old root") + SYSTEM.read_text())
    system.write_text(large.read_text())
    (tmp_path / "new root").mkdir()

    def run(*options: str) -> str:
        done = subprocess.run(
            [*AS_ROOT, sys.executable, "-c", CHROOTED, f"{url}/dir", before, *options],
            capture_output=True, text=True, timeout=60,
            env={**os.environ, "NEW_ROOT": str(tmp_path / "new root"), "SSL_CERT_FILE": str(system)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    with server(pki, *CHAIN) as url:
        url = url.replace("localhost", "127.0.0.1")
        assert "hostname mismatch" in run(f"ca_file={small}") or "IP address mismatch" in run(f"ca_file={small}")
        for lost, options in ((large, [f"ca_file={large}"]), (system, [])):
            message = run(*options)
            assert "this system has no CA certificates" in message and str(lost) in message
            assert "after chroot(), to a file of at most 64 KiB" in message


AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
