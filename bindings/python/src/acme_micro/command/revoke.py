"""``acme-micro revoke``."""

from __future__ import annotations

import argparse

from ..certificates import Certificate
from ..errors import AcmeError
from ..keys import PrivateKey
from .failure import UsageError
from .layout import Layout
from .output import Output
from .parser import REASONS


async def revoke(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    if (arguments.name is None) == (arguments.cert is None):
        raise UsageError("which certificate?", "add its NAME, or --cert FILE if it is not in the folder")
    if arguments.key and not arguments.cert:
        raise UsageError("--key needs --cert")
    ca = layout.find(arguments, arguments.name) if arguments.name else layout.ca(arguments)
    try:
        key = PrivateKey.load(arguments.key) if arguments.key else None
        certificate = Certificate.load(arguments.cert) if arguments.cert else None
    except AcmeError as error:
        raise UsageError(str(error)) from None
    if arguments.name:
        certificate = ca.store.certificate(arguments.name)
    if certificate is None:
        raise UsageError(f"{arguments.name} is not usable", "revoke it with --cert and --key")
    output.step(f"{', '.join(certificate.names)}: asking {ca.name} to revoke it")
    async with ca.client() as client:
        await client.revoke(certificate, REASONS[arguments.reason], key=key)
    text = f"{', '.join(certificate.names)}: revoked"
    if arguments.name:
        # Neither the certificate nor its key may be used again: the key may be known to others.
        ca.set_aside(arguments.name)
        text += f"\n  its files in {ca.path} are renamed to end in .revoked"
    output.result(text, {"command": "revoke", "serial": certificate.serial, "names": certificate.names})
    return 0
