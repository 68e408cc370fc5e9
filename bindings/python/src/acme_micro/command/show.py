"""``acme-micro show``: the certificates, and the times of their renewal."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime
from typing import Any

from ..aio import AsyncClient
from ..errors import AcmeError
from ..operation import RenewalInfo
from .failure import document, kind_of
from .in_use import AnyCa, in_use_instead
from .layout import Ca, Layout, describe
from .output import Output
from .text import day, day_and_time, is_near, not_before, plain, table, time_left

HEADING = ("NAME", "CA", "LEFT", "EXPIRES", "RENEWAL WINDOW", "RENEWS", "NAMES")


async def show(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Shows a table. Columns are empty if a CA does not respond, and rows if a file is not usable."""
    found: list[dict[str, Any]] = []
    failures: list[Exception] = []

    def unusable(ca: str, name: str | None, error: Exception, **more: Any) -> dict[str, Any]:
        output.error(error, about=name or ca)
        failures.append(error)
        return {"name": name, "ca": ca, "usable": False, **more, "error": document(error)}

    async def one(ca: Ca, client: AsyncClient | None, name: str) -> dict[str, Any]:
        try:
            other = in_use_instead(ca, name, cas)
            return {**await _one(ca, client, name, output), "in_use": (other or ca).name}
        except Exception as error:  # a bug, too: it must not hide the others
            return unusable(ca.name, name, error, **ca.paths(name))

    usable, wanted = layout.cas(arguments), layout.wanted(arguments)
    found += [unusable(ca, None, error) for ca, error in layout.unusable.items()]
    cas: list[AnyCa] = [*usable, *layout.unusable_cas()]
    for ca, names in wanted:
        async with AsyncExitStack() as stack:
            client = None
            if not arguments.offline:
                try:
                    if ca.has_account:
                        client = await stack.enter_async_context(ca.client())
                except Exception as error:  # a file that the client needs, or a bug
                    output.error(error, about=ca.name)
                    failures.append(error)
            found += await asyncio.gather(*(one(ca, client, name) for name in names))
    rows = [HEADING, *(_row(one) for one in found)]
    text = table(rows) if found else f"there is no certificate in {layout.shown}"
    result = {"command": "show", "folder": layout.shown, "certificates": found}
    output.result(text, {"ok": not failures, **result})
    return kind_of(failures[0])[1] if failures else 0


async def _one(ca: Ca, client: AsyncClient | None, name: str, output: Output) -> dict[str, Any]:
    certificate = ca.store.certificate(name)
    if certificate is None:
        return {"name": name, "ca": ca.name, "usable": False, **ca.paths(name)}
    found = {**describe(ca, name, certificate), "usable": True, "renewal": None}
    if client is not None:
        try:
            info = await client.renewal_info(certificate)
        except AcmeError as error:
            output.error(error, about=name)
            return {**found, "renewal_error": document(error)}
        found["renewal"] = {**asdict(info), "is_due": info.is_due}
    return found


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    name, ca = plain(found["name"] or "-"), found["ca"]
    if not found["usable"]:
        why = found["error"]["message"] if "error" in found else "key and chain do not match"
        return name, ca, "-", "-", "-", "-", f"not usable: {why}"
    renewal, end = found["renewal"], found["not_after"]
    info = RenewalInfo(**{k: v for k, v in renewal.items() if k != "is_due"}) if renewal else None
    by_minute = is_near(end) or (info is not None and is_near(info.renew_at))
    window, at = _window(info, by_minute) if info else ("?", "?")
    if found["in_use"] != ca:
        at = "not"
    expires = day_and_time(end) if by_minute else day(end)
    return name, ca, time_left(end), expires, window, at, " ".join(found["names"])


def _window(info: RenewalInfo, by_minute: bool) -> tuple[str, str]:
    def since(moment: datetime) -> str:
        return day_and_time(not_before(moment)) if by_minute else day(moment)

    end = day_and_time(info.window_end) if by_minute else day(info.window_end)
    window = f"{since(info.window_start)} .. {end}"
    return window if info.from_ca else f"{window} (estimated)", "now" if info.is_due else since(info.renew_at)
