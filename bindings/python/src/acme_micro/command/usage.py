"""The texts of ``acme-micro --help`` and ``acme-micro --version``."""

from __future__ import annotations

import os

from .. import __version__, library_version

DESCRIPTION = "TLS certificates from Let's Encrypt or any other ACME CA."
EPILOG = "See acme-micro(1) for the exit statuses, the hooks' environment and examples."
VERSION = "show the versions of command and library"
COMMANDS = {
    "obtain": "obtain a certificate, or renew it if its renewal is due",
    "renew": "renew the certificates whose renewal is due",
    "daemon": "renew certificates when it is time, until it is stopped",
    "move": "obtain a certificate from another CA instead, after a trial",
    "revoke": "revoke a certificate",
    "delete": "end the renewals of a certificate, and rename its files",
    "show": "list the certificates and the times of their renewal",
    "account": "show, create or change an account at a CA",
}


def help() -> str:
    """Returns the help as argparse formats it, without argparse, which takes long to import."""
    commands = "\n".join(f"    {name:<12} {what}" for name, what in COMMANDS.items())
    return f"""\
usage: acme-micro [-h] [-V] COMMAND ...

{DESCRIPTION}

positional arguments:
  COMMAND
{commands}

options:
  -h, --help     show this help message and exit
  -V, --version  {VERSION}

{EPILOG}"""


def help_fits() -> bool:
    """Whether the terminal has the 80 columns of the help; otherwise argparse wraps its lines."""
    named = os.environ.get("COLUMNS", "")
    columns = int(named) if named.isdecimal() else 0
    try:
        columns = columns or os.get_terminal_size().columns
    except OSError:  # standard output is not a terminal
        pass
    return columns == 0 or columns >= 80


def versions() -> str:
    """Returns the versions of the command and of the library."""
    return f"acme-micro {__version__} (library {library_version()})"
