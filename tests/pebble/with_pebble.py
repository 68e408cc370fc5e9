#!/usr/bin/env python3
"""Runs a command beside an ACME server of its own.

    with_pebble.py [--eab KID:HMAC]... [--env NAME=VALUE]... [--keep-logs DIR] [--tools DIR]
                   [--no-retry-after] [--profile NAME=SECONDS]... -- COMMAND [ARG]...

Starts Pebble (Let's Encrypt's test CA) and pebble-challtestsrv (a DNS server that resolves every name
to 127.0.0.1) on free loopback ports, runs COMMAND, stops both servers. Several may run at the same
time, also one inside another. It needs Python's standard library and the openssl program; tests/setup installs
the two servers.

    --eab KID:HMAC          a new account needs an external account binding; Pebble knows this one
    --env NAME=VALUE        a variable for Pebble, such as PEBBLE_WFE_NONCEREJECT=50
    --keep-logs DIR         keep pebble.log and challtestsrv.log in this folder
    --tools DIR             the folder of the two servers, instead of target/tools
    --no-retry-after        Pebble sends no Retry-After; otherwise it sends one second with orders and
                            authorizations
    --profile NAME=SECONDS  a profile, with the validity of its certificates; otherwise one,
                            "default", of 90 days. Pebble picks one at random for an order that names
                            none, so a test with several profiles names one in each order

By default Pebble behaves at random. Here it does the same in every run: it accepts each good nonce,
reuses a valid authorization, validates at once and has one profile. The variables PEBBLE_WFE_NONCEREJECT,
PEBBLE_AUTHZREUSE, PEBBLE_VA_NOSLEEP and others change that, by --env or in the environment. Still at
random are the order of authorizations, identifiers and challenges, and the form of Retry-After.
Options in the environment variable WITH_PEBBLE_OPTIONS come before those of the command line;
`make flaky` uses it.

COMMAND finds in its environment:

    ACME_DIRECTORY         directory URL
    ACME_CA_FILE           PEM file: the CA that signed Pebble's own HTTPS certificate
    SSL_CERT_FILE          the same, for programs that take their roots from OpenSSL's variable
    PEBBLE_MANAGEMENT      URL of Pebble's management interface, without a slash at the end
    PEBBLE_CHALLTESTSRV    URL of the DNS server's management interface, likewise
    PEBBLE_HTTP_PORT       port on which Pebble validates http-01
    PEBBLE_TLS_PORT        port on which Pebble validates tls-alpn-01
    PEBBLE_ROOT            PEM file: root of the certificates that Pebble issues
    PEBBLE_INTERMEDIATE    PEM file: their issuer
    PEBBLE_LOG             Pebble's log
    PEBBLE_VERSION         "2.10.1"; "0" if it is unknown

A server on PEBBLE_HTTP_PORT or PEBBLE_TLS_PORT must set SO_REUSEADDR (see Ports below); Go, Rust's
standard library, asyncio and http.server do.

Exit status: COMMAND's own; 128 + N when COMMAND or this program was ended by signal N; 125 when the
servers did not start; 126 and 127 when COMMAND cannot be run or found.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Callable, TypeVar

T = TypeVar("T")
TOOLS = Path(__file__).resolve().parents[2] / "target" / "tools"

ATTEMPTS = 3  # a port can be lost to another program between our choice and Pebble's bind
START_S = 20  # for both servers to respond
STOP_S = 5  # for a process to end by itself before it is killed
CTRL_C_S = 2  # for COMMAND to end by itself after Ctrl-C
LOG_LINES = 30

DEFAULT_PROFILE = ("default", str(90 * 86400))
# Reuse of authorizations can be switched on only: Pebble takes 0 % for 1 %.
FIXED = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "100"}

EXIT_NOT_STARTED, EXIT_CANNOT_RUN, EXIT_NOT_FOUND = 125, 126, 127

# Complete, so that the machine's openssl.cnf changes nothing, and so that strict verifiers (such as
# Python 3.13) find every extension that RFC 5280 requires.
OPENSSL_CONFIG = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = with_pebble.py
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
"""


class StartError(Exception):
    """Pebble or COMMAND did not start; the text says why."""

    def __init__(self, why: str, status: int = EXIT_NOT_STARTED):
        super().__init__(why)
        self.status = status


class Interrupted(BaseException):
    """A signal asked this program to end."""

    def __init__(self, signum: int):
        self.signum = signum


def main() -> int:
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup and shell jobs ignore some
            signal.signal(signum, on_signal)
    options, command = parse_arguments(sys.argv[1:])
    try:
        with contextlib.ExitStack() as stack:
            pebble = start_servers(stack, options)
            code = run(command, {**os.environ, **pebble})
            if code != 0:
                print_tail(Path(pebble["PEBBLE_LOG"]))
            return code
    except StartError as error:
        say(str(error))
        return error.status
    except Interrupted as interrupted:
        return 128 + interrupted.signum


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    def pair(separator: str):
        def parse(text: str) -> tuple[str, str]:
            left, found, right = text.partition(separator)
            if not (left and found):
                raise argparse.ArgumentTypeError(f"{text!r} has no {separator!r}")
            return left, right

        return parse

    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] -- COMMAND [ARG]...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    hidden = argparse.SUPPRESS  # __doc__ describes all options
    parser.add_argument("-h", "--help", action="help", help=hidden)
    parser.add_argument("--eab", type=pair(":"), action="append", default=[], help=hidden)
    parser.add_argument("--env", type=pair("="), action="append", default=[], help=hidden)
    parser.add_argument("--keep-logs", type=Path, help=hidden)
    parser.add_argument("--tools", type=Path, default=TOOLS, help=hidden)
    parser.add_argument("--no-retry-after", action="store_true", help=hidden)
    parser.add_argument("--profile", type=pair("="), action="append", default=[], help=hidden)

    # Split here, because Python's versions differ in how argparse treats "--".
    split = arguments.index("--") if "--" in arguments else len(arguments)
    ours, command = arguments[:split], arguments[split + 1 :]
    more = shlex.split(os.environ.get("WITH_PEBBLE_OPTIONS", ""))
    # If the command line has profiles, the command relies on them.
    if any(option.partition("=")[0] == "--profile" for option in ours):
        more = [option for option in more if not option.startswith("--profile=")]
    options = parser.parse_args(more + ours)
    if not command:
        parser.error("no COMMAND after --")
    for name, seconds in options.profile:
        if not (seconds.isascii() and seconds.isdecimal() and int(seconds) > 0):
            parser.error(f"--profile {name}={seconds}: give its validity in seconds")
    return options, command


# --- the servers ----------------------------------------------------------------------------------


def start_servers(stack: contextlib.ExitStack, options: argparse.Namespace) -> dict[str, str]:
    """Starts both servers, which stack stops; returns COMMAND's environment variables."""
    programs = {name: find_program(options.tools, name) for name in ("pebble", "pebble-challtestsrv")}
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="with-pebble-")))
    logs = options.keep_logs or directory
    logs.mkdir(parents=True, exist_ok=True)
    make_certificates(directory)

    return try_to_start(
        stack,
        lambda this_attempt: start_once(this_attempt, programs, directory, logs.resolve(), options),
        [logs / "challtestsrv.log", logs / "pebble.log"],
    )


def try_to_start(
    stack: contextlib.ExitStack, start: Callable[[contextlib.ExitStack], T], logs: list[Path]
) -> T:
    """Calls start until it succeeds, at most ATTEMPTS times; returns its result."""
    for attempt in range(1, ATTEMPTS + 1):
        with contextlib.ExitStack() as this_attempt:
            try:
                found = start(this_attempt)
            except StartError as error:
                if attempt == ATTEMPTS:
                    for log in logs:
                        print_tail(log)
                    raise
                say(f"{error}; trying again")
            else:
                stack.push(this_attempt.pop_all())
                return found
    raise AssertionError("the last attempt returns or raises")


def start_once(
    stack: contextlib.ExitStack,
    programs: dict[str, str],
    directory: Path,
    logs: Path,
    options: argparse.Namespace,
) -> dict[str, str]:
    ports = Ports(stack, ("acme", "management", "dns", "dns_management", "http", "tls"))
    ca_file = directory / "https-ca.pem"
    acme = f"https://127.0.0.1:{ports['acme']}/dir"
    management = f"https://127.0.0.1:{ports['management']}"
    dns_management = f"http://127.0.0.1:{ports['dns_management']}"

    config = directory / "pebble.json"
    config.write_text(json.dumps(pebble_config(directory, ports, options), indent=2))
    environment = {**FIXED, **os.environ, **dict(options.env)}

    dns = start_dns(stack, programs["pebble-challtestsrv"], ports, logs / "challtestsrv.log")
    pebble = Server(
        stack,
        [programs["pebble"], "-config", str(config), "-dnsserver", f"127.0.0.1:{ports['dns']}"],
        logs / "pebble.log",
        environment,
    )
    tls = ssl.create_default_context(cafile=str(ca_file))
    deadline = time.monotonic() + START_S
    dns.wait_until(lambda: dns_answers(ports["dns"]) and http_answers(dns_management), deadline)
    pebble.wait_until(lambda: http_answers(acme, tls), deadline)
    pebble.wait_until(lambda: http_answers(management + "/roots/0", tls), deadline)
    for name, path in (("root", "/roots/0"), ("intermediate", "/intermediates/0")):
        (directory / f"{name}.pem").write_bytes(http_get(management + path, tls))

    return {
        "ACME_DIRECTORY": acme,
        "ACME_CA_FILE": str(ca_file),
        "SSL_CERT_FILE": str(ca_file),
        "PEBBLE_MANAGEMENT": management,
        "PEBBLE_CHALLTESTSRV": dns_management,
        "PEBBLE_HTTP_PORT": str(ports["http"]),
        "PEBBLE_TLS_PORT": str(ports["tls"]),
        "PEBBLE_ROOT": str(directory / "root.pem"),
        "PEBBLE_INTERMEDIATE": str(directory / "intermediate.pem"),
        "PEBBLE_LOG": str(pebble.log),
        "PEBBLE_VERSION": pebble_version(programs["pebble"]),
    }


def pebble_config(directory: Path, ports: Ports, options: argparse.Namespace) -> dict[str, object]:
    wait = 0 if options.no_retry_after else 1
    profiles = {
        name: {"description": f"Certificates for {seconds} seconds", "validityPeriod": int(seconds)}
        for name, seconds in options.profile or [DEFAULT_PROFILE]
    }
    return {
        "pebble": {
            "listenAddress": f"127.0.0.1:{ports['acme']}",
            "managementListenAddress": f"127.0.0.1:{ports['management']}",
            "certificate": str(directory / "https.pem"),
            "privateKey": str(directory / "https.key"),
            "httpPort": ports["http"],
            "tlsPort": ports["tls"],
            "externalAccountBindingRequired": bool(options.eab),
            "externalAccountMACKeys": dict(options.eab),
            "domainBlocklist": ["blocked-domain.example"],
            "retryAfter": {"authz": wait, "order": wait},
            "keyAlgorithm": "ecdsa",
            "profiles": profiles,
        }
    }


def start_dns(stack: contextlib.ExitStack, program: str, ports: Ports, log: Path) -> Server:
    return Server(stack, [program, *challtestsrv_arguments(program, ports)], log, dict(os.environ))


def challtestsrv_arguments(program: str, ports: Ports) -> list[str]:
    """Returns the arguments, for DNS and management only: the program under test responds to challenges."""
    help = subprocess.run([program, "-help"], capture_output=True, text=True, timeout=STOP_S)
    usage = help.stderr
    # Debian 12 has an older version, without a DoH server; its option for the DNS server is -dns01.
    dns_option = "-dnsserver" if "-dnsserver" in usage else "-dns01"
    off = ["-http01", "-https01", "-tlsalpn01"] + (["-doh"] if "-doh " in usage else [])
    arguments = [argument for option in off for argument in (option, "")]
    arguments += [dns_option, f"127.0.0.1:{ports['dns']}"]
    arguments += ["-management", f"127.0.0.1:{ports['dns_management']}"]
    # Without an IPv6 address the CA connects to 127.0.0.1, where the tests listen.
    return arguments + ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]


def find_program(tools: Path, name: str) -> str:
    program = shutil.which(name, path=str(tools)) or shutil.which(name)
    if program is None:
        raise StartError(f"{name} is not installed; run tests/setup")
    return program


def pebble_version(program: str) -> str:
    # A program from `go install` cannot print its version, but its build information has it.
    built_in = re.search(
        rb"\tgithub\.com/letsencrypt/pebble/v2\tv([0-9.]+)", Path(program).read_bytes()
    )
    if built_in:
        return built_in.group(1).decode()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        package = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "pebble"],
            capture_output=True, text=True, timeout=STOP_S, check=True,
        )  # fmt: skip
        return re.findall("^[0-9.]+|$", package.stdout)[0] or "0"
    return "0"


def make_certificates(directory: Path) -> None:
    """Makes https-ca.pem, and https.pem with https.key, for Pebble's two HTTPS servers."""
    config = directory / "openssl.cnf"
    config.write_text(OPENSSL_CONFIG)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    key += ["-config", "openssl.cnf"]
    for command in (
        ["req", "-x509", *key, "-extensions", "ca", "-days", "30", "-subj", "/CN=Test CA for HTTPS",
         "-keyout", "https-ca.key", "-out", "https-ca.pem"],
        ["req", "-new", *key, "-subj", "/CN=localhost",
         "-keyout", "https.key", "-out", "https.csr"],
        ["x509", "-req", "-in", "https.csr", "-CA", "https-ca.pem", "-CAkey", "https-ca.key",
         "-set_serial", "1", "-days", "30", "-extfile", "openssl.cnf", "-extensions", "server",
         "-out", "https.pem"],
    ):  # fmt: skip
        openssl(directory, *command)


def openssl(directory: Path, *command: str) -> None:
    try:
        subprocess.run(
            ["openssl", *command],
            cwd=directory, check=True, timeout=START_S, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise StartError(f"openssl {command[0]} failed: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"openssl: {error}") from error


class Ports(dict):
    """Free loopback ports, by name, held until stack ends.

    While a socket is bound and does not listen, the kernel does not give its port to programs that ask for
    any free port, but a server that sets SO_REUSEADDR can listen there. So the ports stay reserved, also
    those that a test binds late or several times.
    """

    def __init__(self, stack: contextlib.ExitStack, names: tuple[str, ...]):
        for name in names:
            self[name] = self.reserve(stack)
            while name == "dns" and not self.free_for_udp(self[name]):
                self[name] = self.reserve(stack)

    @staticmethod
    def reserve(stack: contextlib.ExitStack) -> int:
        holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]

    @staticmethod
    def free_for_udp(port: int) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True


class Server:
    """A process that runs until stack ends."""

    def __init__(
        self, stack: contextlib.ExitStack, command: list[str], log: Path, env: dict[str, str]
    ):
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                # Ctrl-C must not reach the server: COMMAND may still need the server for its clean-up.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        stack.callback(end, self.process, signal.SIGTERM)

    def wait_until(self, ready, deadline: float) -> None:
        while not ready():
            if self.process.poll() is not None:
                raise StartError(f"{self.name} ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} did not answer within {START_S} s")
            time.sleep(0.02)


def die_with_parent() -> None:
    """Runs in the child: the kernel kills this server if with_pebble.py ends, even by SIGKILL."""
    pr_set_pdeathsig = 1
    LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL)


LIBC = ctypes.CDLL(None)  # loaded here, as a child between fork and exec should not


# --- questions to the servers ---------------------------------------------------------------------


def http_get(url: str, tls: ssl.SSLContext | None = None) -> bytes:
    # Use no proxy, even if the environment names one: the server is on this machine.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    with opener.open(url, timeout=2) as response:
        return response.read()


def http_answers(url: str, tls: ssl.SSLContext | None = None) -> bool:
    try:
        http_get(url, tls)
    except urllib.error.HTTPError:
        return True  # "not found" is a response
    except OSError:
        return False
    return True


def dns_answers(port: int) -> bool:
    query_id = b"\x12\x34"
    question = b"\x07example\x04test\x00" + b"\x00\x01" + b"\x00\x01"  # A, IN
    query = query_id + b"\x01\x00" + b"\x00\x01" + bytes(6) + question
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        try:
            client.connect(("127.0.0.1", port))
            client.send(query)
            return client.recv(512).startswith(query_id)
        except OSError:
            return False


# --- processes and signals ------------------------------------------------------------------------


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def on_signal(signum: int, _frame: object) -> None:
    for each in SIGNALS:  # no further signal may interrupt the clean-up
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(signum)


def run(command: list[str], env: dict[str, str]) -> int:
    process = None
    try:
        process = subprocess.Popen(command, env=env)
        code = process.wait()
    except FileNotFoundError as error:
        raise StartError(f"{command[0]}: not found", EXIT_NOT_FOUND) from error
    except OSError as error:
        raise StartError(f"{command[0]}: {error.strerror}", EXIT_CANNOT_RUN) from error
    except Interrupted as interrupted:
        if process:
            if interrupted.signum == signal.SIGINT:  # Ctrl-C has reached the command, too
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(CTRL_C_S)
            end(process, signal.SIGTERM)
        raise
    return code if code >= 0 else 128 - code


def end(process: subprocess.Popen, signum: int) -> None:
    if process.poll() is None:
        process.send_signal(signum)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def print_tail(log: Path) -> None:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        say(f"the last lines of {log.name}:")
        print(*lines, sep="\n", file=sys.stderr)


def say(text: str) -> None:
    print(f"with_pebble.py: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
