"""``acme-micro obtain``: a certificate, new or renewed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ..aio import AsyncClient
from ..certificates import Certificate
from ..errors import AcmeError
from ..store import refuses_key
from .cas import DEFAULT, DIRECTORIES
from .failure import DeployFailed, HookFailed, UsageError, advise
from .hints import advise_of_challenges
from .layout import Ca, Layout, describe
from .output import Output
from .parser import KEY_TYPES
from .settings import CertificateSettings
from .solve import make_solver, run_hook
from .text import time_left, until

SETTINGS = (
    "webroot", "standalone", "hook", "cleanup_hook", "challenge_type",
    "key_type", "profile", "preferred_chain", "deploy_hook",
)  # fmt: skip


async def obtain(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    names = tuple(dict.fromkeys(name for names in arguments.domain for name in names))
    settings = CertificateSettings(names, **{name: getattr(arguments, name) for name in SETTINGS})
    if arguments.hook_timeout is not None:
        settings = replace(settings, hook_timeout=arguments.hook_timeout)
    _check(settings)
    name = arguments.name or names[0]
    ca = layout.ca(arguments, DIRECTORIES[DEFAULT])
    async with ca.client(arguments) as client:
        found = await obtain_one(ca, client, name, settings, output, force=arguments.force)
    output.result(_text(found), {"command": "obtain", "certificate": found})
    if ca.settings.directory == DIRECTORIES[DEFAULT]:
        output.note(f"{DEFAULT} is for trying: nobody trusts this; now add --directory letsencrypt")
    return 0


async def obtain_one(
    ca: Ca,
    client: AsyncClient,
    name: str,
    settings: CertificateSettings,
    output: Output,
    *,
    force: bool,
) -> dict[str, Any]:
    """One certificate, and all that belongs to it; gives it as programs see it."""
    async with ca.locked():  # of two runs at once one finds what the other has done
        known = ca.store.account_url
        try:
            return await _obtain_one(ca, client, name, settings, output, force)
        except AcmeError as error:
            _advise(error, ca, settings)
            raise
        finally:
            url = ca.store.account_url
            if known is None and url is not None and ca.has_deactivated_account:
                output.note(f"{ca.name}: the old account is deactivated, so a new one is registered: {url}")


async def _obtain_one(
    ca: Ca, client: AsyncClient, name: str, settings: CertificateSettings, output: Output, force: bool
) -> dict[str, Any]:
    before = ca.store.certificate(name)
    earlier = ca.certificate_settings(name)
    if earlier is not None:
        settings = replace(settings, deployed=earlier.deployed)
        if settings.deploy_hook is None:
            settings = replace(settings, deploy_hook=earlier.deploy_hook)
    key_type = ca.key_type(name)
    if settings.key_type is not None and key_type not in (None, settings.key_type):
        if ca.has_chain(name):
            output.note(f"{name}: its key stays {key_type}; another --name, or revoke, makes a new one")
            settings = replace(settings, key_type=key_type)
        else:
            ca.set_key_aside(name)
    if before is None:
        # There is no other way that works; and a run that is killed soon leaves one to renew by.
        ca.keep_certificate_settings(name, settings)
    output.step(f"{', '.join(settings.names)}: asking {ca.name}")
    certificate = await ca.store.obtain_async(
        client,
        settings.names,
        make_solver(settings, output),
        name=name,
        key_type=KEY_TYPES[settings.key_type or "p256"],
        renew_now=force,
        profile=settings.profile,
        preferred_chain=settings.preferred_chain,
    )
    is_new = before is None or before.fingerprint != certificate.fingerprint
    what = "new, good" if is_new else "not due yet; it is good"
    output.step(f"{name}: {what} until {until(certificate.not_after)}")
    ca.keep_certificate_settings(name, settings)
    await _deploy(ca, name, settings, certificate, output)
    return {**describe(ca, name, certificate), "is_new": is_new}


def _advise(error: AcmeError, ca: Ca, settings: CertificateSettings) -> None:
    advise_of_challenges(error, settings)
    if refuses_key(error) and not ca.has_account:
        advise(error, "acme-micro account create --key-type TYPE makes an account with another type of key")


async def deploy_pending(ca: Ca, name: str, output: Output) -> None:
    """Runs the deploy hook if it has not seen the certificate that is here."""
    async with ca.locked():
        settings, certificate = ca.certificate_settings(name), ca.store.certificate(name)
        if settings is not None and certificate is not None:
            await _deploy(ca, name, settings, certificate, output)


async def _deploy(
    ca: Ca, name: str, settings: CertificateSettings, certificate: Certificate, output: Output
) -> None:
    """Runs the deploy hook until it has seen this certificate: also what an earlier run, which was
    killed or whose hook failed, has left."""
    if not settings.deploy_hook or settings.deployed == certificate.fingerprint:
        return
    output.step(f"{name}: {settings.deploy_hook}")
    paths = ca.paths(name)
    variables = {
        "ACME_NAME": name,
        "ACME_NAMES": " ".join(certificate.names),
        "ACME_CHAIN_FILE": paths["chain_file"],
        "ACME_KEY_FILE": paths["key_file"],
        "RENEWED_DOMAINS": " ".join(certificate.names),
    }
    try:
        await run_hook(settings.deploy_hook, variables, settings.hook_timeout)
    except HookFailed as error:
        hint = f"the certificate is there: {paths['chain_file']}; the next run tries the hook again"
        raise DeployFailed(str(error), hint) from None
    ca.keep_certificate_settings(name, replace(settings, deployed=certificate.fingerprint))


def _check(settings: CertificateSettings) -> None:
    if not (settings.webroot or settings.standalone or settings.hook):
        raise UsageError(
            "how are the names to be proven?", "add --webroot DIR, --standalone or --hook CMD"
        )
    if settings.hook is None and (settings.cleanup_hook or settings.challenge_type):
        raise UsageError("--cleanup-hook and --challenge-type go with --hook")
    by_http = settings.webroot or settings.standalone or settings.challenge_type == "http-01"
    wildcards = [name for name in settings.names if name.startswith("*.")]
    if by_http and wildcards:
        raise UsageError(
            f"{wildcards[0]}: no CA takes http-01 for a wildcard", "use --hook, with dns-01"
        )


def _text(found: dict[str, Any]) -> str:
    what = "new certificate" if found["is_new"] else "not due for renewal"
    end = found["not_after"]
    return (
        f"{found['name']}: {what}, good until {until(end)} ({time_left(end)})\n"
        f"  chain  {found['chain_file']}\n"
        f"  key    {found['key_file']}"
    )
