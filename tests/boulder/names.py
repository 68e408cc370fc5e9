"""DNS records of names at Boulder's DNS server. All other names have the address of the web server."""

from __future__ import annotations

import json
import os
import urllib.request


def set_txt(name: str, value: str) -> None:
    """Adds a TXT record."""
    tell("/set-txt", host=f"{name}.", value=value)


def clear_txt(name: str) -> None:
    tell("/clear-txt", host=f"{name}.")


def set_address(name: str, address: str) -> None:
    tell("/add-a", host=f"{name}.", addresses=[address])


def fail(name: str) -> None:
    """Makes the DNS server return SERVFAIL for each query of the name."""
    tell("/set-servfail", host=f"{name}.")


def allow_only(name: str, ca: str) -> None:
    """Adds a CAA record."""
    tell("/add-caa", host=f"{name}.", policies=[{"tag": "issue", "value": ca}])


def tell(path: str, **body: object) -> None:
    request = urllib.request.Request(
        os.environ["BOULDER_CHALLTESTSRV"] + path, json.dumps(body).encode(), method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10):
        pass
