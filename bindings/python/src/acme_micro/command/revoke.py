"""``acme-micro revoke``."""

from __future__ import annotations

import argparse

from ..certificates import Certificate
from ..keys import PrivateKey
from .failure import UsageError
from .layout import Layout
from .output import Output
from .parser import REASONS


async def revoke(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    if (arguments.name is None) == (arguments.cert is None):
        raise UsageError("which certificate?", "its NAME, or --cert FILE for one that is elsewhere")
    if arguments.key and not arguments.cert:
        raise UsageError("--key goes with --cert")
    ca = layout.find(arguments, arguments.name) if arguments.name else layout.ca(arguments)
    key = PrivateKey.load(arguments.key) if arguments.key else None
    if arguments.name:
        certificate = ca.store.certificate(arguments.name)
    else:
        certificate = Certificate.load(arguments.cert)
    if certificate is None:
        raise UsageError(f"{arguments.name} cannot be used", "revoke it with --cert and --key")
    output.step(f"{', '.join(certificate.names)}: asking {ca.name} to revoke it")
    async with ca.client() as client:
        await client.revoke(certificate, REASONS[arguments.reason], key=key)
    text = f"{', '.join(certificate.names)}: revoked"
    if arguments.name:
        # Nothing is to use it any more, nor to renew it with this key, which may be known.
        ca.set_aside(arguments.name)
        text += f"\n  its files in {ca.path} end in .revoked now"
    output.result(text, {"command": "revoke", "serial": certificate.serial, "names": certificate.names})
    return 0
