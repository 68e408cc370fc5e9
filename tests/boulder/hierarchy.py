"""The keys and certificates of Boulder's parts, all made with the openssl program."""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path

import addresses
from certificates import EC, Certificates
from with_pebble import openssl

# The name of each of Boulder's parts. It needs a public suffix because certificates have it.
NAME = "boulder.example.com"

SECTIONS = f"""\
[intermediate]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, digitalSignature, keyCertSign, cRLSign
extendedKeyUsage = serverAuth
certificatePolicies = 2.23.140.1.2.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
authorityInfoAccess = caIssuers;URI:http://{NAME}/root
crlDistributionPoints = URI:http://{NAME}/root.crl
[part]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:{NAME}, IP:{addresses.INTERNAL}, IP:{addresses.CA}, IP:{addresses.CA_OF_FEW_ACCOUNTS}
"""

RSA = ["rsa:2048"]
INTERMEDIATES = {"int-ecdsa": EC, "int-rsa": RSA}
LOGS = ("log-a", "log-b")  # the two logs need different operators


class Hierarchy:
    """A folder with these keys and certificates."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.certificates = Certificates(folder, SECTIONS)
        self.make("https-ca", EC, "root", "Test CA for Boulder's parts")
        self.make("part", EC, "part", NAME, issuer="https-ca")
        self.make("root", EC, "root", "Test root")
        for name, key in INTERMEDIATES.items():
            self.make(name, key, "intermediate", f"Test {name}", issuer="root")
        for name in LOGS:
            openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        for name in ("nonce", "unpause"):
            (folder / f"{name}.hmac").write_text(secrets.token_hex(32))
        (folder / "redis.password").write_text("redis")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def make(self, name: str, key: list[str], kind: str, subject: str, issuer: str = "") -> None:
        """Writes NAME.pem and NAME.key; self-signed unless an issuer is given."""
        subject = f"/O=Boulder for acme-micro/C=US/CN={subject}"
        self.certificates.make(name, kind, subject, issuer, key)

    def log_key(self, name: str) -> str:
        """The key of a certificate transparency log, in the form that the log's server reads."""
        return base64.b64encode(self.der("ec", "-in", f"{name}.key")).decode()

    def log_list(self, urls: dict[str, str]) -> dict[str, object]:
        """The operators and URLs of the logs, in the schema that browsers publish."""
        operators = []
        for name, url in urls.items():
            public = self.der("ec", "-in", f"{name}.key", "-pubout")
            log = {
                "description": name,
                "log_id": base64.b64encode(hashlib.sha256(public).digest()).decode(),
                "key": base64.b64encode(public).decode(),
                "url": url,
                "mmd": 86400,
                "state": {"usable": {"timestamp": "2000-01-01T00:00:00Z"}},
                "temporal_interval": {
                    "start_inclusive": "2000-01-01T00:00:00Z",
                    "end_exclusive": "2100-01-01T00:00:00Z",
                },
            }
            operators.append({"name": f"Operator of {name}", "email": [f"log@{NAME}"], "logs": [log]})
        return {"version": "0.1", "log_list_timestamp": "2000-01-01T00:00:00Z", "operators": operators}

    def der(self, *arguments: str) -> bytes:
        """Returns what openssl writes in DER."""
        openssl(self.folder, *arguments, "-outform", "DER", "-out", "out.der")
        return (self.folder / "out.der").read_bytes()
