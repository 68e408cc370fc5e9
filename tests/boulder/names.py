"""What Boulder's DNS server says of names. All else has the address of the web server."""

from __future__ import annotations

import json
import os
import urllib.request


def set_txt(name: str, value: str) -> None:
    """One more value."""
    tell("/set-txt", host=f"{name}.", value=value)


def clear_txt(name: str) -> None:
    tell("/clear-txt", host=f"{name}.")


def set_address(name: str, address: str) -> None:
    tell("/add-a", host=f"{name}.", addresses=[address])


def fail(name: str) -> None:
    """SERVFAIL for each question."""
    tell("/set-servfail", host=f"{name}.")


def allow_only(name: str, ca: str) -> None:
    """A CAA record."""
    tell("/add-caa", host=f"{name}.", policies=[{"tag": "issue", "value": ca}])


def tell(path: str, **body: object) -> None:
    request = urllib.request.Request(
        os.environ["BOULDER_CHALLTESTSRV"] + path, json.dumps(body).encode(), method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10):
        pass
