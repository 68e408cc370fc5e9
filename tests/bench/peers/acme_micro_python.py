"""Obtains one or many certificates with this repository's Python package: see libraries.py.

The CA accepts every challenge, so none is published.
"""

from __future__ import annotations

import sys
from pathlib import Path

import acme_micro as acme


class Nothing:
    """A solver that publishes nothing."""

    challenge_types = ("http-01",)

    def publish(self, challenges: tuple[acme.Challenge, ...]) -> None:
        pass

    unpublish = publish


def main() -> None:
    directory, ca_file, file, what, *rest = sys.argv[1:]
    path = Path(file) if file != "-" else None
    url, pem = path.read_text().split("\n", 1) if path and path.exists() else (None, None)
    key = acme.PrivateKey.parse(pem) if pem else acme.PrivateKey.generate()
    options = {"account_url": url, "ca_file": ca_file, "terms_agreed": True}
    if what == "many" and rest[1] == "at-once":
        # Imported here only: a blocking program needs no event loop, and asyncio takes as long to load as
        # everything else.
        import asyncio

        asyncio.run(at_once(acme.AsyncClient(directory, key, **options), names(*rest)))
        return
    with acme.Client(directory, key, **options) as ca:
        if what == "issue":
            ca.obtain(rest, Nothing())
        else:
            for name in names(*rest):
                ca.obtain([name], Nothing())
        if path and not pem:
            path.write_text(f"{ca.account_url}\n{key.pem}")


def names(count: str, _: str, prefix: str) -> list[str]:
    return [f"{prefix}{i}.test" for i in range(int(count))]


async def at_once(client: acme.AsyncClient, wanted: list[str]) -> None:
    import asyncio

    async with client as ca:
        await asyncio.gather(*(ca.obtain([name], Nothing()) for name in wanted))


main()
