"""Certificates in files that people have made."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from ..certificates import Certificate
from ..errors import AcmeError
from .failure import UsageError
from .system_text import to_system

CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

# The first byte of a certificate that is not PEM.
DER = b"\x30"


def first_certificate(path: str) -> Certificate:
    """Reads the first certificate of a file; its key, its issuers and explanations may be there, too."""
    data = Path(to_system(path)).read_bytes()
    found = CERTIFICATE.search(data)
    if found is None and data.startswith(DER):
        found = CERTIFICATE.search(ssl.DER_cert_to_PEM_cert(data).encode())
    try:
        return Certificate.parse(found[0] if found else data)
    except AcmeError as error:
        raise UsageError(f"{path} has no certificate that can be read: {error}") from None
