"""``acme-micro obtain``: a certificate, new or renewed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ..aio import AsyncClient
from ..certificates import Certificate
from ..client import Client
from ..errors import AcmeError
from ..keys import PrivateKey
from ..store import refuses_key
from .cas import DEFAULT, DIRECTORIES
from .failure import DeployFailed, HookFailed, UsageError, advise
from .hints import advise_of_account, advise_of_challenges, advise_of_publishing
from .hook import run_hook
from .in_use import in_use_instead, next_turn
from .layout import Ca, Layout, describe
from .output import Output
from .parser import KEY_TYPES
from .settings import CertificateSettings
from .solve import make_solver
from .system_text import current_folder
from .text import time_left, until

SETTINGS = (
    "standalone", "hook", "cleanup_hook", "challenge_type",
    "key_type", "profile", "preferred_chain", "deploy_hook",
)  # fmt: skip


async def obtain(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    names = tuple(dict.fromkeys(name for names in arguments.domain for name in names))
    settings = CertificateSettings(names, **{name: getattr(arguments, name) for name in SETTINGS})
    if arguments.webroot:
        first, *more = dict.fromkeys(arguments.webroot)
        settings = replace(settings, webroot=first, more_webroots=tuple(more))
    folder = current_folder()
    settings = replace(settings, hook_folder=settings.hook and folder)
    settings = replace(settings, deploy_folder=settings.deploy_hook and folder)
    if arguments.hook_timeout is not None:
        settings = replace(settings, hook_timeout=arguments.hook_timeout)
    _check_names(names)
    _check(settings)
    ca = layout.ca(arguments, DIRECTORIES[DEFAULT])
    name = ca.stored_name(arguments.name or names[0])
    cas = layout.everywhere()
    settings = replace(settings, turn=next_turn(ca, name, settings, cas))
    other = in_use_instead(ca, name, [*cas, *layout.unusable_cas()], settings)
    if other is not None and settings.deploy_hook is None:
        settings = replace(settings, deploy_hook="")  # also one that is remembered
    async with ca.client(arguments) as client:
        found = await obtain_one(ca, client, name, settings, output, force=arguments.force)
    output.result(summary(found), {"command": "obtain", "certificate": found})
    if ca.trial_for:
        trial = f"{ca.name} is for trials: browsers do not trust this certificate"
        how = f"run acme-micro move {name} --directory {ca.trial_for} --agree-terms"
        if other is not None:
            how = f"that of {other.name} stays in use"
        output.note(f"{trial}; {how}")
    return 0


async def obtain_one(
    ca: Ca,
    client: AsyncClient,
    name: str,
    settings: CertificateSettings,
    output: Output,
    *,
    force: bool,
    deploy_again: bool = False,
) -> dict[str, Any]:
    """Obtains one certificate, and runs its deploy hook; returns its description for programs.

    With ``deploy_again``, the hook runs even if it has succeeded for this certificate.
    """
    async with ca.locked():  # of two runs at the same time, the second finds the certificate
        known = ca.store.account_url
        try:
            return await _obtain_one(ca, client, name, settings, output, force, deploy_again)
        except (AcmeError, OSError) as error:
            advise_of(error, ca, settings)
            raise
        finally:
            url = ca.store.account_url
            if known is None and url is not None and ca.has_deactivated_account:
                output.note(f"{ca.name}: the old account is deactivated, so a new one was registered: {url}")


async def _obtain_one(
    ca: Ca,
    client: AsyncClient,
    name: str,
    settings: CertificateSettings,
    output: Output,
    force: bool,
    deploy_again: bool,
) -> dict[str, Any]:
    before = ca.store.certificate(name)
    settings = _with_earlier(settings, ca.certificate_settings(name), deploy_again)
    key_type = ca.key_type(name)
    if settings.key_type is not None and key_type not in (None, settings.key_type):
        if ca.has_chain(name):
            how = "for a new key use another --name, or revoke the certificate"
            output.note(f"{name}: its key stays {key_type}; {how}")
            settings = replace(settings, key_type=key_type)
        else:
            ca.set_key_aside(name)
    if before is None:
        # No earlier settings have worked; and renewals need settings even if this run is killed.
        ca.keep_certificate_settings(name, settings)
    output.step(f"{', '.join(settings.names)}: asking {ca.name}")
    certificate = await ca.store.obtain_async(
        client,
        settings.names,
        make_solver(settings, output, ca.variables),
        name=name,
        key_type=KEY_TYPES[settings.key_type or "p256"],
        renew_now=force,
        profile=settings.profile,
        preferred_chain=settings.preferred_chain,
    )
    is_new = before is None or before.fingerprint != certificate.fingerprint
    what = "new, valid" if is_new else "renewal not due yet; valid"
    output.step(f"{name}: {what} until {until(certificate.not_after)}")
    ca.keep_certificate_settings(name, settings)
    await _deploy(ca, name, settings, certificate, output)
    return {**describe(ca, name, certificate), "is_new": is_new}


def _with_earlier(
    settings: CertificateSettings, earlier: CertificateSettings | None, deploy_again: bool
) -> CertificateSettings:
    """Adds what earlier settings remember of the deploy hook."""
    if earlier is None:
        return settings
    if settings.deploy_hook is None:
        settings = replace(settings, deploy_hook=earlier.deploy_hook, deploy_folder=earlier.deploy_folder)
    return replace(settings, deployed=None if deploy_again else earlier.deployed)


def advise_of(error: AcmeError | OSError, ca: Ca, settings: CertificateSettings) -> None:
    """Gives an error of an attempt its hint."""
    if not isinstance(error, AcmeError):
        return advise_of_publishing(error, settings)
    advise_of_challenges(error, settings)
    advise_of_account(error, ca)
    if refuses_key(error) and not ca.has_account:
        advise(error, "run acme-micro account create --key-type TYPE for an account with another type of key")


async def deploy_pending(ca: Ca, name: str, output: Output) -> None:
    """Runs the deploy hook if it has not run for the stored certificate."""
    async with ca.locked():
        settings, certificate = ca.certificate_settings(name), ca.store.certificate(name)
        if settings is not None and certificate is not None:
            await _deploy(ca, name, settings, certificate, output)


async def _deploy(
    ca: Ca, name: str, settings: CertificateSettings, certificate: Certificate, output: Output
) -> None:
    """Runs the deploy hook, unless it has succeeded for this certificate.

    The certificate may be an earlier run's, which was killed or whose hook failed.
    """
    if not settings.deploy_hook or settings.deployed == certificate.fingerprint:
        return
    output.step(f"{name}: {settings.deploy_hook}")
    paths = ca.paths(name)
    variables = {
        **ca.variables,
        "ACME_NAME": name,
        "ACME_NAMES": " ".join(certificate.names),
        "ACME_CHAIN_FILE": paths["chain_file"],
        "ACME_KEY_FILE": paths["key_file"],
        "RENEWED_DOMAINS": " ".join(certificate.names),
    }
    try:
        await run_hook(settings.deploy_hook, variables, settings.hook_timeout, settings.deploy_folder)
    except HookFailed as error:
        hint = f"the certificate is in {paths['chain_file']}; the next run tries the hook again"
        raise DeployFailed(str(error), "; ".join(filter(None, (error.hint, hint)))) from None
    ca.keep_certificate_settings(name, replace(settings, deployed=certificate.fingerprint))


def _check(settings: CertificateSettings) -> None:
    if not (settings.webroot or settings.standalone or settings.hook):
        raise UsageError(
            "obtain needs a way to publish challenges", "add --webroot DIR, --standalone or --hook CMD"
        )
    for hook in settings.hook, settings.cleanup_hook, settings.deploy_hook:
        if hook and not hook.strip():
            raise UsageError("the command of a hook is blank", "give a command, or leave the option out")
    if settings.hook is None and (settings.cleanup_hook or settings.challenge_type):
        raise UsageError("--cleanup-hook and --challenge-type need --hook")
    by_http = settings.webroot or settings.standalone or settings.challenge_type == "http-01"
    wildcards = [name for name in settings.names if name.startswith("*.")]
    if by_http and wildcards:
        record = f"_acme-challenge.{wildcards[0].removeprefix('*.')}"
        raise UsageError(
            f"{wildcards[0]}: CAs do not validate a wildcard by http-01",
            f"use --hook CMD with a command that publishes the TXT record {record} (dns-01)",
        )


def _check_names(names: tuple[str, ...]) -> None:
    """Refuses names that no CA certifies, before there is a folder or a key: begins an order that is never
    sent."""
    with Client("https://localhost/", PrivateKey.generate()) as client:
        client.begin_order(names, challenge_types=("http-01", "dns-01")).close()


def summary(found: dict[str, Any]) -> str:
    what = "new certificate" if found["is_new"] else "not due for renewal"
    end = found["not_after"]
    return (
        f"{found['name']}: {what}, valid until {until(end)} ({time_left(end)})\n"
        f"  chain  {found['chain_file']}\n"
        f"  key    {found['key_file']}"
    )
