"""The file ``NAME.order``, by which a program continues an issuance after it was killed.

It is plain text. The example obtain.c reads and writes the same format::

    acme-order 1
    directory URL           the purpose of the order: CA, account, key and names
    account THUMBPRINT
    key THUMBPRINT
    name NAME               one line for each name
    runs 1                  number of runs in a row that began with this order and were killed
    order URL
    published TOKEN TYPE NAME [DNS-NAME]

The file contains no secret, and its times have no meaning.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .steps import Challenge

KIND, VERSION = "acme-order ", "1"


@dataclass(frozen=True)
class Purpose:
    """The CA, account, key and names of an order."""

    directory_url: str
    account: str
    key: str
    names: tuple[str, ...]

    def text(self) -> str:
        lines = [f"directory {self.directory_url}", f"account {self.account}", f"key {self.key}"]
        return "".join(f"{line}\n" for line in [*lines, *(f"name {name}" for name in self.names)])


@dataclass(frozen=True)
class Journal:
    """An order in progress."""

    purpose: Purpose
    order_url: str | None = None
    runs: int = 1
    published: tuple[Challenge, ...] = ()

    @classmethod
    def parse(cls, text: str, purpose: Purpose) -> Journal | None:
        """Parses a journal. None: the text is not a journal. If it has another purpose, the result has only
        its published challenges."""
        if not text.startswith(f"{KIND}{VERSION}\n"):
            return None
        is_ours = text.startswith(f"{KIND}{VERSION}\n{purpose.text()}runs ") and text.endswith("\n")
        self = cls(purpose)
        for line in text.splitlines():
            what, *rest = line.split(" ")
            if what == "published" and rest:
                self = self.with_published([_published(purpose.account, *rest[:4])])
            elif is_ours and what == "order" and len(rest) == 1:
                self = replace(self, order_url=rest[0])
            elif is_ours and what == "runs" and line[5:].isdigit():
                self = replace(self, runs=int(line[5:]))
        return self

    def text(self) -> str:
        text = f"{KIND}{VERSION}\n{self.purpose.text()}runs {self.runs}\n"
        if self.order_url:
            text += f"order {self.order_url}\n"
        for c in self.published:
            dns_name = f" {c.dns_name}" if c.dns_name else ""
            text += f"published {c.token} {c.type} {c.identifier}{dns_name}\n"
        return text

    def with_published(self, challenges: Iterable[Challenge]) -> Journal:
        """Adds challenges that are going to be published. Persistent ones stay, so they are not added."""
        more = [c for c in challenges if not c.persistent]
        known = {identity(c) for c in more}
        kept = [c for c in self.published if identity(c) not in known]
        return replace(self, published=(*kept, *more))


def identity(challenge: Challenge) -> tuple[str, str, str]:
    """Returns what distinguishes a challenge. Older programs record only the token of http-01."""
    identifier = "" if challenge.type == "http-01" else challenge.identifier
    return challenge.type, challenge.token, identifier


def is_newer(text: str) -> bool:
    """Whether a later version of this package wrote it."""
    return text.startswith(KIND) and not text.startswith(f"{KIND}{VERSION}\n")


def _published(
    thumbprint: str, token: str, type: str = "http-01", identifier: str = "", dns_name: str | None = None
) -> Challenge:
    """Restores a challenge for a solver to remove; its values follow from the token and the thumbprint."""
    authorization = f"{token}.{thumbprint}"
    digest = hashlib.sha256(authorization.encode()).digest()
    return Challenge(
        type=type,
        identifier=identifier,
        token=token,
        key_authorization=authorization,
        http_path=f"/.well-known/acme-challenge/{token}" if type == "http-01" else None,
        dns_name=dns_name,
        dns_value=urlsafe_b64encode(digest).decode().rstrip("=") if dns_name else None,
        tls_alpn_digest=digest if type == "tls-alpn-01" else None,
    )
