"""``acme-micro renew``: what a cron job or a timer runs."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from ..aio import AsyncClient
from ..certificates import Certificate
from ..errors import AcmeError
from ..schedule import next_try
from .failure import CommandError, DeployFailed, document, kind_of
from .layout import Ca, Layout
from .obtain import deploy_pending, obtain_one
from .output import Output
from .text import day_and_time, not_before, plain, until

FAILURES = (AcmeError, CommandError, OSError)


async def renew(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """One that fails does not stop the others. When to renew is the CA's word (RFC 9773): of the time
    that it names each certificate has its own moment, so that no run needs to wait a while."""
    done: list[dict[str, Any]] = []
    failures: list[Exception] = []

    def failed(ca: Ca, name: str, error: Exception) -> None:
        output.error(error, about=name)
        failures.append(error)
        done.append({"name": name, "ca": ca.name, "ok": False, "error": document(error)})

    wanted = layout.wanted(arguments)
    for name, error in layout.unusable.items():
        output.error(error, about=name)
        failures.append(error)
        done.append({"name": None, "ca": name, "ok": False, "error": document(error)})
    for ca, names in wanted:
        try:
            async with ca.client() as client:
                for name in names:
                    try:
                        done.append(await _renew_one(ca, client, name, arguments, output))
                    except FAILURES as error:
                        failed(ca, name, error)
        except FAILURES as error:  # no client, for want of a file
            for name in names:
                failed(ca, name, error)
    lines = (_line(found) for found in done if found.get("is_new"))
    found = {"ok": not failures, "command": "renew", "certificates": done}
    output.result("\n".join(lines), found)
    return kind_of(failures[0])[1] if failures else 0


async def _renew_one(
    ca: Ca, client: AsyncClient, name: str, arguments: argparse.Namespace, output: Output
) -> dict[str, Any]:
    """After failures it is not before :func:`acme_micro.next_try` that the CA is asked again, however
    often this runs; and a CA that always says "now" is asked for a certificate a day, or as often as
    a short one needs."""
    settings = ca.certificate_settings(name)
    if settings is None:
        output.note(f"{name}: left alone, for it was not obtained by this command")
        return {"name": name, "ca": ca.name, "ok": True, "is_new": False, "settings": None}
    insists = arguments.force or name in map(ca.stored_name, arguments.name)
    if time.time() < settings.next_try and not insists:
        at = datetime.fromtimestamp(settings.next_try, timezone.utc)
        output.step(f"{name}: not tried again before {day_and_time(not_before(at))}")
        await deploy_pending(ca, name, output)
        return {"name": name, "ca": ca.name, "ok": True, "is_new": False, "next_try": at}
    try:
        found = await obtain_one(ca, client, name, settings, output, force=arguments.force)
    except DeployFailed:
        raise  # the CA has nothing to do with that
    except FAILURES as error:
        _record_attempt(ca, name, error)
        raise
    if found["is_new"] and not insists:
        _record_attempt(ca, name, None)
    else:
        _change(ca, name, failures=0, renewals=0, next_try=0.0)
    return {**found, "ok": True}


def _record_attempt(ca: Ca, name: str, error: Exception | None) -> None:
    settings = ca.certificate_settings(name)
    if settings is None:
        return
    if error is None:
        failures, renewals = 0, settings.renewals + 1
    else:
        failures, renewals = settings.failures + 1, settings.renewals
    at = next_try(failures or renewals, error, _current_certificate(ca, name))
    _change(ca, name, failures=failures, renewals=renewals, next_try=at.timestamp())


def _current_certificate(ca: Ca, name: str) -> Certificate | None:
    """After a failure the old one, after a success the new one; None if it cannot be used."""
    try:
        return ca.store.certificate(name)
    except FAILURES:
        return None


def _change(ca: Ca, name: str, **values: Any) -> None:
    settings = ca.certificate_settings(name)
    if settings is not None:
        ca.keep_certificate_settings(name, replace(settings, **values))


def _line(found: dict[str, Any]) -> str:
    return f"{plain(found['name'])}: renewed, good until {until(found['not_after'])}"
