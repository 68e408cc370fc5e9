"""``acme-micro revoke``."""

from __future__ import annotations

import argparse

from .._names import name_of
from .._native import RevocationReason
from ..aio import AsyncClient
from ..certificates import Certificate
from ..errors import AcmeError
from ..keys import PrivateKey
from .failure import UsageError
from .layout import Ca, Layout
from .output import Output
from .parser import REASONS
from .pem import first_certificate
from .system_text import to_system
from .text import plain


async def revoke(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    if (arguments.name is None) == (arguments.cert is None):
        raise UsageError("which certificate?", "add its NAME, or --cert FILE if it is not in the folder")
    if arguments.key and not arguments.cert:
        raise UsageError("--key needs --cert")
    try:
        key = PrivateKey.load(to_system(arguments.key)) if arguments.key else None
    except AcmeError as error:
        raise UsageError(str(error)) from None
    certificate = first_certificate(arguments.cert) if arguments.cert else None
    ca = _ca_of(certificate, arguments, layout)
    certificate = certificate or ca.store.certificate(arguments.name)
    if certificate is None:
        raise UsageError(f"{arguments.name} is not usable", "revoke it with --cert and --key")
    output.step(f"{', '.join(certificate.names)}: asking {ca.name} to revoke it")
    lines = [f"{', '.join(certificate.names)}: revoked"]
    async with ca.client() as client:
        lines += await _revoke(ca, client, certificate, REASONS[arguments.reason], key, layout, output)
    found = {"command": "revoke", "serial": certificate.serial, "names": certificate.names}
    output.result("\n".join(lines), found)
    return 0


async def _revoke(
    ca: Ca,
    client: AsyncClient,
    certificate: Certificate,
    reason: RevocationReason,
    key: PrivateKey | None,
    layout: Layout,
    output: Output,
) -> list[str]:
    """Revokes a certificate, and sets aside what may not be used again, in the folders of all CAs; returns a
    line for each.

    The store of ``ca`` does so itself. Another CA's may have the same key.
    """
    others = [one for one in layout.everywhere() if one.path != ca.path]
    concerned = {one: one.store._revocation(certificate, reason) for one in others}
    files = {one: revocation.files for one, revocation in concerned.items()}
    files[ca] = ca.store._concerned(certificate, reason)
    try:
        await client.revoke(certificate, reason, key=key)
    except AcmeError as error:
        for revocation in concerned.values():
            revocation.failed(error)
        if reason == RevocationReason.KEY_COMPROMISE and any(files.values()):
            output.note("the key counts as compromised nevertheless: the next order uses another one")
        raise
    for revocation in concerned.values():
        revocation.succeeded()
    retired = [(one, file) for one, names in files.items() for file in names]
    for one, file in retired:
        one.forget_settings(file)
    return [
        f"  the files of {plain(name_of(file))} in {one.path} are renamed to end in .revoked"
        for one, file in retired
    ]


def _ca_of(certificate: Certificate | None, arguments: argparse.Namespace, layout: Layout) -> Ca:
    """Returns the CA of the arguments, or the only one that has this certificate."""
    if certificate is None:
        return layout.find(arguments, arguments.name)
    if arguments.directory is None:
        cas = layout.cas(arguments)
        having = [one for one in cas if one.store._concerned(certificate, RevocationReason.UNSPECIFIED)]
        if len(having) == 1:
            return having[0]
    return layout.ca(arguments)
