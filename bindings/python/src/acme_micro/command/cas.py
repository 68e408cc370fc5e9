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
#: The CAs for trials, and the CA for which each is.
TRIALS = {"letsencrypt-staging": "letsencrypt", "google-staging": "google"}
#: The CA for a first trial: browsers do not trust its certificates, and its rate limits are high.
DEFAULT = "letsencrypt-staging"


def directory_of(text: str) -> str:
    """Returns the directory's URL for a short name or a URL; raises ValueError for other texts."""
    url = DIRECTORIES.get(text, text)
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{text!r} is neither an https URL nor one of {', '.join(DIRECTORIES)}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of a directory must not contain a user or a password")
    return url


def name_of(directory: str) -> str:
    """Returns the name of the CA's folder: its short name, or a name made from the URL."""
    for name, url in DIRECTORIES.items():
        if url == directory:
            return name
    parts = urlsplit(directory)
    return re.sub(r"[^A-Za-z0-9.:-]", "_", f"{parts.netloc}{parts.path.rstrip('/')}")
