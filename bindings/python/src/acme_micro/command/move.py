"""``acme-micro move``: another CA takes the place of a certificate's CA, usually after a trial."""

from __future__ import annotations

import argparse
from dataclasses import replace

from .failure import UsageError
from .in_use import next_turn
from .layout import Ca, Layout
from .obtain import obtain_one, summary
from .output import Output
from .settings import CertificateSettings


async def move(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Obtains a certificate with the options of another CA's certificate, which it then deletes.

    After a failure both certificates are as before, and the command can be repeated.
    """
    if arguments.directory is None:
        raise UsageError("to which CA?", "add --directory, such as --directory letsencrypt")
    old, settings = _source(arguments, layout)
    name, ca = old.stored_name(arguments.name), layout.ca(arguments)
    settings = replace(settings, turn=next_turn(ca, name, settings, layout.everywhere()))
    async with ca.client(arguments) as client:
        # The live certificate is the old one, even if the deploy hook has run for the new one.
        found = await obtain_one(ca, client, name, settings, output, force=False, deploy_again=True)
    async with old.locked():
        files = old.delete(name)
    output.note(f"{name}: the certificate of {old.name} is deleted; its files end in .deleted")
    output.result(summary(found), {"command": "move", "certificate": found, "files": files})
    return 0


def _source(arguments: argparse.Namespace, layout: Layout) -> tuple[Ca, CertificateSettings]:
    """Returns the other CA that has the certificate, and the certificate's options, as new."""
    cas = [one for one in layout.everywhere() if one.settings.directory != arguments.directory]
    having = [one for one in cas if one.has(arguments.name)]
    if len(having) > 1:
        why = f"{arguments.name}: {', '.join(one.name for one in having)} have it"
        raise UsageError(why, "end the others first: acme-micro delete NAME --directory URL")
    found = layout.only(arguments.name, having)
    settings = found.certificate_settings(found.stored_name(arguments.name))
    if settings is None:
        raise UsageError(f"{arguments.name}: another program obtained it", "use acme-micro obtain")
    # A trial beside a certificate in use has no deploy hook; that certificate's stays.
    settings = replace(settings, deployed=None, passed_over=None, deploy_hook=settings.deploy_hook or None)
    return found, replace(settings, failures=0, renewals=0, next_try=0)
