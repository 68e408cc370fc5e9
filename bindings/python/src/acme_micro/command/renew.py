"""``acme-micro renew``, for a cron job or a timer."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from ..aio import AsyncClient
from ..certificates import Certificate
from ..schedule import next_try
from .failure import DeployFailed, document, kind_of
from .in_use import AnyCa, in_use_instead, pass_over
from .layout import Ca, Layout
from .obtain import deploy_pending, obtain_one
from .output import Output
from .text import day_and_time, not_before, plain, until


async def renew(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Renews certificates. A failure does not stop the others.

    The CA says when to renew (RFC 9773). Each certificate has its own time in the CA's window, so runs
    need no random delay.
    """
    done: list[dict[str, Any]] = []
    failures: list[Exception] = []

    def failed(ca: Ca, name: str, error: Exception) -> None:
        output.error(error, about=name)
        failures.append(error)
        done.append({"name": name, "ca": ca.name, "ok": False, "error": document(error)})

    usable, wanted = layout.cas(arguments), layout.wanted(arguments)
    for name, error in layout.unusable.items():
        output.error(error, about=name)
        failures.append(error)
        done.append({"name": None, "ca": name, "ok": False, "error": document(error)})
    cas: list[AnyCa] = [*usable, *layout.unusable_cas()]
    for ca, names in wanted:
        try:
            async with ca.client() as client:
                for name in names:
                    try:
                        other = in_use_instead(ca, name, cas)
                        if other is not None:
                            pass_over(ca, name, other, output)
                            done.append(_not_renewed(ca, name, in_use=other.name))
                        else:
                            done.append(await _renew_one(ca, client, name, arguments, output))
                    except Exception as error:  # a bug, too: it must not stop the others
                        failed(ca, name, error)
        except Exception as error:  # a file that the client needs
            told = {found["name"] for found in done if found["ca"] == ca.name}
            left = [name for name in names if name not in told]
            for name in left:
                failed(ca, name, error)
            if not left:
                output.error(error, about=ca.name)
                failures.append(error)
    lines = (_line(found) for found in done if found.get("is_new"))
    found = {"ok": not failures, "command": "renew", "certificates": done}
    output.result("\n".join(lines), found)
    return kind_of(failures[0])[1] if failures else 0


async def _renew_one(
    ca: Ca, client: AsyncClient, name: str, arguments: argparse.Namespace, output: Output
) -> dict[str, Any]:
    """Renews a certificate if it is due.

    After a failure the CA gets no request before :func:`acme_micro.next_try`, however often this runs.
    It also limits a CA that always asks for a renewal to one certificate a day, or to what a
    short-lived certificate needs.
    """
    settings = ca.certificate_settings(name)
    if settings is None:
        output.step(f"{name}: not renewed, because another program obtained it")
        return _not_renewed(ca, name, settings=None)
    insists = arguments.force or name in map(ca.stored_name, arguments.name)
    if time.time() < settings.next_try and not insists:
        at = datetime.fromtimestamp(settings.next_try, timezone.utc)
        output.step(f"{name}: not tried again before {day_and_time(not_before(at))}")
        await deploy_pending(ca, name, output)
        return _not_renewed(ca, name, next_try=at)
    try:
        found = await obtain_one(ca, client, name, settings, output, force=arguments.force)
    except DeployFailed:
        raise  # the CA is not the cause
    except Exception as error:
        _record_attempt(ca, name, error)
        raise
    if found["is_new"] and not insists:
        _record_attempt(ca, name, None)
    else:
        _change(ca, name, failures=0, renewals=0, next_try=0.0)
    return {**found, "ok": True}


def _not_renewed(ca: Ca, name: str, **why: Any) -> dict[str, Any]:
    return {"name": name, "ca": ca.name, "ok": True, "is_new": False, **why}


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
    """Returns the certificate in use: the old one after a failure, the new one after a success."""
    try:
        return ca.store.certificate(name)
    except Exception:
        return None


def _change(ca: Ca, name: str, **values: Any) -> None:
    settings = ca.certificate_settings(name)
    if settings is not None:
        ca.keep_certificate_settings(name, replace(settings, **values))


def _line(found: dict[str, Any]) -> str:
    return f"{plain(found['name'])}: renewed, valid until {until(found['not_after'])}"
