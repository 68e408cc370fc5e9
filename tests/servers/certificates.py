"""Keys and certificates for the CAs that tests start, made by the openssl program.

Needs tests/pebble in sys.path, and OpenSSL 3.0.
"""

from __future__ import annotations

from pathlib import Path

from with_pebble import openssl

EC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

# Explicit and complete, so that the machine's openssl.cnf does not matter. Each kind of certificate
# is a section; a folder adds its own to these.
CONFIG = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = certificates.py
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


class Certificates:
    """A folder of keys and certificates."""

    def __init__(self, folder: Path, sections: str):
        """`sections` has the extensions of each kind of certificate other than "root"."""
        self.folder = folder
        (folder / "openssl.cnf").write_text(CONFIG + sections)

    def make(self, name: str, kind: str, subject: str, issuer: str = "", key: list[str] = EC) -> None:
        """Makes NAME.key, and NAME.pem, which is self-signed unless there is an issuer."""
        signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
        openssl(
            self.folder, "req", "-x509", "-config", "openssl.cnf", "-extensions", kind,
            "-newkey", *key, "-nodes", "-keyout", f"{name}.key", "-subj", subject,
            "-days", "365", *signed, "-out", f"{name}.pem",
        )  # fmt: skip
