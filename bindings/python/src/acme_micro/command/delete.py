"""``acme-micro delete``: ends the renewals of a certificate."""

from __future__ import annotations

import argparse

from .layout import Layout
from .output import Output
from .text import plain


async def delete(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Renames key and certificate, and removes the other files. The certificate stays valid."""
    ca = layout.find(arguments, arguments.name, with_parts=True)
    name = ca.stored_name(arguments.name)
    async with ca.locked():
        files = ca.delete(name)
    text = f"{plain(name)}: deleted; it is not renewed any more, and it is not revoked"
    lines = [text, *(f"  kept   {file}" for file in files)]
    output.result("\n".join(lines), {"command": "delete", "name": name, "ca": ca.name, "files": files})
    return 0
