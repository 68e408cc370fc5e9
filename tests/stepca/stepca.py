"""A step-ca of our own: smallstep's CA, with a root, an intermediate and a database in a folder.

It validates challenges on ports that the kernel chose. Its resolver is pebble-challtestsrv, which resolves
every name to 127.0.0.1. tests/setup installs both.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/pebble"), str(ROOT / "tests/servers")]

from certificates import Certificates  # noqa: E402
from with_pebble import (  # noqa: E402
    START_S,
    TOOLS,
    Ports,
    Server,
    StartError,
    dns_answers,
    find_program,
    http_answers,
    start_dns,
)

# Lifetime of the certificates of "short". They stand for certificates of five minutes.
SHORT_S = 5

# One CA for each purpose; its name is a part of the directory URL.
PROVISIONERS: dict[str, dict[str, object]] = {
    "day": {},  # step-ca's default: 24 hours
    "short": {
        "claims": {
            "minTLSCertDuration": "1s",
            "defaultTLSCertDuration": f"{SHORT_S}s",
            "maxTLSCertDuration": "1h",
        }
    },
    "alpn": {"challenges": ["tls-alpn-01"]},
    "eab": {"requireEAB": True},
}

SECTIONS = """\
[intermediate]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class StepCa:
    """Runs until stack ends, except between stop() or kill() and start().

    The thread that starts it has to stay alive: the kernel ends the process together with this thread.
    """

    def __init__(self, stack: ExitStack, folder: Path):
        self.folder = folder
        self.ports = Ports(stack, ("acme", "dns", "dns_management", "http", "tls"))
        self.program = find_program(TOOLS / "stepca", "step-ca")
        self.root = str(folder / "root.pem")  # also the root of step-ca's own HTTPS
        self.challtestsrv = f"http://127.0.0.1:{self.ports['dns_management']}"
        self._starts = 0
        self._running = stack.enter_context(ExitStack())

        make_ca(folder)
        #: Trusts this CA.
        self.tls = ssl.create_default_context(cafile=self.root)
        (folder / "ca.json").write_text(json.dumps(self._config(), indent=2))
        self.eab_kid, self.eab_key = make_eab_key(folder / "db")
        dns = start_dns(
            stack, find_program(TOOLS, "pebble-challtestsrv"), self.ports, folder / "dns.log"
        )
        dns.wait_until(
            lambda: dns_answers(self.ports["dns"]) and http_answers(self.challtestsrv),
            time.monotonic() + START_S,
        )
        self.start()

    def directory(self, provisioner: str) -> str:
        return f"{self._url}/acme/{provisioner}/directory"

    @property
    def crl(self) -> str:
        return f"{self._url}/1.0/crl"

    @property
    def log(self) -> Path:
        """The log of the process that was started last."""
        return self.folder / f"step-ca-{self._starts}.log"

    def start(self) -> None:
        self._starts += 1
        # All of its configuration is in the folder. No proxy, because a proxy could not reach our challenges.
        environment = {**os.environ, "STEPPATH": str(self.folder), "NO_PROXY": "*"}
        self._server = Server(self._running, self._command(), self.log, environment)
        health = f"{self._url}/health"
        self._server.wait_until(
            lambda: http_answers(health, self.tls), time.monotonic() + START_S
        )

    def stop(self) -> None:
        """Stops it as a service manager does."""
        self._running.close()

    def kill(self) -> None:
        self._server.process.kill()
        self._running.close()

    @property
    def _url(self) -> str:
        return f"https://127.0.0.1:{self.ports['acme']}"

    def _command(self) -> list[str]:
        return [
            self.program, str(self.folder / "ca.json"),
            "--insecure",  # required by the next two options
            "--acme-http-port", str(self.ports["http"]),
            "--acme-tls-port", str(self.ports["tls"]),
            "--resolver", f"127.0.0.1:{self.ports['dns']}",
        ]  # fmt: skip

    def _config(self) -> dict[str, object]:
        return {
            "root": self.root,
            "crt": str(self.folder / "intermediate.pem"),
            "key": str(self.folder / "intermediate.key"),
            "address": f"127.0.0.1:{self.ports['acme']}",
            "dnsNames": ["127.0.0.1"],
            "logger": {"format": "text"},
            "db": {"type": "badgerv2", "dataSource": str(self.folder / "db")},
            "crl": {"enabled": True, "generateOnRevoke": True},
            "authority": {
                "backdate": "0s",  # the default is a minute, longer than a short certificate lives
                "provisioners": [
                    {"type": "ACME", "name": name, **more} for name, more in PROVISIONERS.items()
                ],
            },
        }


def make_ca(folder: Path) -> None:
    """Writes root.pem, and intermediate.pem with intermediate.key."""
    certificates = Certificates(folder, SECTIONS)
    certificates.make("root", "root", "/CN=Test Root")
    certificates.make("intermediate", "intermediate", "/CN=Test Intermediate", issuer="root")


def make_eab_key(database: Path) -> tuple[str, str]:
    """Makes a key for one external account binding; returns its id and HMAC key. See go/eab_key.go."""
    try:
        made = subprocess.run(
            [find_program(TOOLS / "stepca", "eab-key"), str(database)],
            capture_output=True, text=True, timeout=START_S, check=True,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        raise StartError(f"eab-key: {error}") from error
    kid, key = made.stdout.split()
    return kid, key
