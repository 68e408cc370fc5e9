"""What a program that is killed during an issuance leaves to the next: ``NAME.order``.

Plain text, a line each: ``order URL``, ``directory URL``, ``published TYPE TOKEN NAME [DNS-NAME]`` for
what is to be taken down, and the names of the order, bare. The C examples read and write the same.
Nothing in it is secret.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .steps import Challenge


@dataclass(frozen=True)
class Journal:
    """An order that is under way."""

    order_url: str
    directory_url: str
    names: frozenset[str]
    published: tuple[Challenge, ...] = ()

    @classmethod
    def parse(cls, text: str, thumbprint: str) -> Journal | None:
        """None: it is none of ours, or torn."""
        found: dict[str, str] = {}
        names: set[str] = set()
        published: list[Challenge] = []
        if not text.endswith("\n"):
            return None
        for line in text.splitlines():
            what, *rest = line.split(" ")
            if what in ("order", "directory") and len(rest) == 1:
                found[what] = rest[0]
            elif what == "published" and len(rest) in (3, 4):
                published.append(_published(*rest, thumbprint=thumbprint))
            elif what and not rest:
                names.add(what)
            else:
                return None
        if len(found) < 2 or not names:
            return None
        return cls(found["order"], found["directory"], frozenset(names), tuple(published))

    def text(self) -> str:
        lines = [f"order {self.order_url}", f"directory {self.directory_url}"]
        for c in self.published:
            dns_name = f" {c.dns_name}" if c.dns_name else ""
            lines.append(f"published {c.type} {c.token} {c.identifier}{dns_name}")
        return "".join(f"{line}\n" for line in [*lines, *sorted(self.names)])

    def is_for(self, directory_url: str, names: Iterable[str]) -> bool:
        return self.directory_url == directory_url and self.names == frozenset(names)

    def with_published(self, challenges: Iterable[Challenge]) -> Journal:
        """What stays published is nobody's to take down."""
        more = [c for c in challenges if not c.is_persistent]
        known = {(c.type, c.token, c.identifier) for c in more}
        kept = [c for c in self.published if (c.type, c.token, c.identifier) not in known]
        return replace(self, published=(*kept, *more))


def _published(
    type: str, token: str, identifier: str, dns_name: str | None = None, *, thumbprint: str
) -> Challenge:
    """A challenge as it was, for a solver to take down: all of it follows from the token."""
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
