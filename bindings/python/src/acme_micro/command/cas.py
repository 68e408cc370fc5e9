"""Short names of CAs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..client import LETSENCRYPT, LETSENCRYPT_STAGING

DIRECTORIES = {
    "letsencrypt": LETSENCRYPT,
    "letsencrypt-staging": LETSENCRYPT_STAGING,
    "google": "https://dv.acme-v02.api.pki.goog/directory",
    "google-staging": "https://dv.acme-v02.test-api.pki.goog/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
}
#: Nobody trusts its certificates, and no limit of it is worth saving: what one wants to begin with.
DEFAULT = "letsencrypt-staging"


def directory_of(text: str) -> str:
    """The directory's URL, for a short name or a URL; ValueError for neither."""
    url = DIRECTORIES.get(text, text)
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{text!r} is no https URL, and none of {', '.join(DIRECTORIES)}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a directory's URL has no user and no password in it")
    return url


def name_of(directory: str) -> str:
    """The short name, or one that is made of the URL: what the CA's folder is called."""
    for name, url in DIRECTORIES.items():
        if url == directory:
            return name
    parts = urlsplit(directory)
    return re.sub(r"[^A-Za-z0-9.:-]", "_", f"{parts.netloc}{parts.path.rstrip('/')}")
