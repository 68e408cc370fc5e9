#!/usr/bin/env python3
"""Runs a command beside a Boulder of its own: the server of Let's Encrypt, with low rate limits.

    with_boulder.py [--keep-logs DIR] -- COMMAND [ARG]...

Starts the servers that Boulder needs (MariaDB, Redis, a DNS server for its own services, two certificate
transparency logs, a DNS server for the names that it validates), Boulder's parts including three remote
perspectives, and COMMAND. All of them run in a new network namespace, which disappears afterwards; this
needs root. tests/setup boulder installs the programs.

    --keep-logs DIR     write the log of each part to DIR and keep it

COMMAND gets these environment variables:

    ACME_DIRECTORY         directory URL
    ACME_CA_FILE           PEM file: the CA of the directory server's HTTPS certificate
    SSL_CERT_FILE          the same file, for programs that read OpenSSL's variable
    BOULDER_FEW_ACCOUNTS   the same directory, at an address with a low limit for new accounts
    BOULDER_WEB            address of all names; COMMAND may use its ports 80 and 443
    BOULDER_CHALLTESTSRV   URL of the management interface of the names' DNS server
    BOULDER_ROOT           PEM file: root of the certificates that Boulder issues
    BOULDER_SFE            URL of the server where accounts are unpaused
    BOULDER_ADMIN          Boulder's command admin and, after a space, its configuration
    BOULDER_LOGS           folder with a log of each part: PART.log
    BOULDER_PIDS           folder with the process number of each part. If COMMAND ends a part, the
                           part starts again after 5 seconds

Exit status: COMMAND's own; 128 + N if signal N ended COMMAND or this program; 125 if
Boulder did not start; 126 and 127 if COMMAND cannot be run or found.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import ssl
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "pebble"), str(HERE.parent / "servers")]

import addresses
import namespace
import stores
from addresses import INTERNAL
from configuration import LOGS, NAME, PERSPECTIVES, PORTS, Configuration, address, url
from hierarchy import Hierarchy
from parts import Parts
from with_pebble import SIGNALS, Interrupted, StartError, http_answers, on_signal, run

TOOLS = HERE.parents[1] / "target" / "tools" / "boulder"
READY_S = 60  # until the ACME server issues a nonce, after all parts listen
SYSTEM_PROGRAMS = ("mariadb", "mariadbd", "mariadb-install-db", "redis-server", "dnsmasq", "openssl")
GO_PROGRAMS = ("boulder", "admin", "chall-test-srv", "ct-test-srv")
LOG_LINES = 10


def main() -> int:
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, on_signal)
    options, command = parse_arguments(sys.argv[1:])
    try:
        with contextlib.ExitStack() as stack:
            return run(command, {**os.environ, **start_boulder(stack, options)})
    except StartError as error:
        print(f"with_boulder.py: {error}", file=sys.stderr)
        return error.status
    except Interrupted as interrupted:
        return 128 + interrupted.signum


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] -- COMMAND [ARG]...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keep-logs", type=Path, help=argparse.SUPPRESS)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    if not command:
        parser.error("no COMMAND after --")
    return options, command


def start_boulder(stack: contextlib.ExitStack, options: argparse.Namespace) -> dict[str, str]:
    """Starts everything; stack stops it. Returns COMMAND's environment variables."""
    check_programs()
    namespace.enter()
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="with-boulder-")))
    logs = (options.keep_logs or directory / "logs").resolve()
    logs.mkdir(parents=True, exist_ok=True)
    for old in logs.glob("*.log"):
        old.unlink()
    keys = Hierarchy(directory / "keys")
    configuration = Configuration(directory / "configuration", keys)
    parts = Parts(stack, logs, directory / "pids")
    try:
        start_parts(parts, configuration, directory)
        wait_until_ready(keys)
    except StartError:
        for log in sorted(logs.glob("*.log"), key=os.path.getmtime)[-3:]:
            print(f"with_boulder.py: the last lines of {log.name}:", file=sys.stderr)
            print(*log.read_text(errors="replace").splitlines()[-LOG_LINES:], sep="\n", file=sys.stderr)
        raise
    parts.keeper.start()
    return {
        "ACME_DIRECTORY": f"{url(addresses.CA)}/directory",
        "ACME_CA_FILE": keys.path("https-ca.pem"),
        "SSL_CERT_FILE": keys.path("https-ca.pem"),
        "BOULDER_FEW_ACCOUNTS": f"{url(addresses.CA_OF_FEW_ACCOUNTS)}/directory",
        "BOULDER_WEB": addresses.WEB,
        "BOULDER_CHALLTESTSRV": f"http://{address('challtestsrv')}",
        "BOULDER_ROOT": keys.path("root.pem"),
        "BOULDER_SFE": f"http://{address('sfe')}",
        "BOULDER_ADMIN": f"{TOOLS / 'admin'} {configuration.path('admin')}",
        "BOULDER_LOGS": str(logs),
        "BOULDER_PIDS": str(parts.pids),
    }


def check_programs() -> None:
    missing = [name for name in SYSTEM_PROGRAMS if shutil.which(name) is None]
    missing += [name for name in GO_PROGRAMS if not (TOOLS / name).exists()]
    if missing:
        raise StartError(f"not installed: {', '.join(missing)}; run tests/setup boulder")


def start_parts(parts: Parts, configuration: Configuration, directory: Path) -> None:
    keys = configuration.keys
    parts.start("mariadb", stores.mariadb(directory / "mariadb"))
    stores.load_schema(directory / "mariadb", TOOLS / "schema")
    parts.start("redis", stores.redis(directory / "redis", keys))
    parts.start("service-dns", dnsmasq())
    parts.start("challtestsrv", chall_test_srv(keys))
    ct_test_srv = [str(TOOLS / "ct-test-srv"), "-config", configuration.path("ct-test-srv")]
    parts.start("ct-test-srv", ct_test_srv, port=LOGS[-1])

    def boulder(part: str, program: str, port: str = "") -> None:
        command = [str(TOOLS / "boulder"), program, "--config", configuration.path(part)]
        parts.start(part, command, port)

    boulder("sa", "boulder-sa")
    boulder("publisher", "boulder-publisher")
    for part in PERSPECTIVES:
        boulder(part, "remoteva")
    boulder("va", "boulder-va")
    # The CA gets SCTs from a registration authority, and a registration authority gets certificates from the
    # CA. Two registration authorities run, so that each process can start after the one that it needs.
    boulder("ra-for-scts", "boulder-ra")
    boulder("ca", "boulder-ca")
    boulder("ra", "boulder-ra")
    for part in ("nonce-1", "nonce-2"):
        boulder(part, "nonce-service")
    boulder("wfe", "boulder-wfe2", port="acme")
    boulder("sfe", "sfe")


def dnsmasq() -> list[str]:
    """Resolves the addresses of the nonce services: a nonce names the service that redeems it."""
    records = [f"--host-record=nonce.{NAME},{INTERNAL}"]
    for part in ("nonce-1", "nonce-2"):
        records.append(f"--srv-host=_nonce._tcp.{NAME},nonce.{NAME},{PORTS[part]}")
    return [
        # dnsmasq must not change its user: a process that does no longer ends with this program.
        "dnsmasq", "--no-daemon",
        "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces",
        f"--listen-address={INTERNAL}", f"--port={PORTS['service-dns']}", *records,
    ]  # fmt: skip


def chall_test_srv(keys: Hierarchy) -> list[str]:
    """Runs only DNS and management: the program under test responds to the challenges."""
    off = [argument for name in ("http01", "https01", "tlsalpn01") for argument in (f"-{name}", "")]
    return [
        str(TOOLS / "chall-test-srv"), *off, "-dns01", address("challenge-dns"),
        "-doh", address("challenge-doh"), "-doh-cert", keys.path("part.pem"),
        "-doh-cert-key", keys.path("part.key"), "-management", address("challtestsrv"),
        "-defaultIPv4", addresses.WEB, "-defaultIPv6", "",
    ]  # fmt: skip


def wait_until_ready(keys: Hierarchy) -> None:
    tls = ssl.create_default_context(cafile=keys.path("https-ca.pem"))
    deadline = time.monotonic() + READY_S
    while not http_answers(f"{url(addresses.CA)}/directory", tls):
        if time.monotonic() > deadline:
            raise StartError(f"Boulder's directory could not be read within {READY_S} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
