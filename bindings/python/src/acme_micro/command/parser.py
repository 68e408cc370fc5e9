"""What may be said to the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .._native import KeyType, RevocationReason
from .cas import DEFAULT, DIRECTORIES, directory_of
from .failure import UsageError

KEY_TYPES = {type.name.lower(): type for type in KeyType}
REASONS = {reason.name.lower().replace("_", "-"): reason for reason in RevocationReason}
HOOK_TYPES = ("dns-01", "http-01", "dns-account-01", "dns-persist-01")
# Of what an option takes, for shell completion.
FILES, FOLDERS, COMMANDS, CERTIFICATES, CAS = "FILE", "DIR", "CMD", "NAME", "URL"


class Parser(argparse.ArgumentParser):
    """Leaves it to us to tell of mistakes; an option cannot be shortened, for scripts' sake."""

    def __init__(self, *arguments: Any, **options: Any):
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help tells more")


# Adds some arguments to a parser.
Part = Callable[[Parser], None]


def make_parser() -> Parser:
    parser = Parser(
        prog="acme-micro",
        description="TLS certificates from Let's Encrypt or any other ACME CA.",
        epilog="acme-micro(1) has the exit statuses, the hooks' environment and examples.",
    )
    parser.add_argument("-V", "--version", action="store_true", help="tell the versions, and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, help: str, *parts: Part) -> None:
        _add(commands, name, help, *parts)

    due = "obtain a certificate, or renew it when it is due"
    command("obtain", due, _obtain, _ca, _new_account, _common)
    command("renew", "renew the certificates that are due", _some, _renew, _ca, _common)
    command("revoke", "revoke a certificate", _revoke, _ca, _common)
    listed = "list the certificates, and when they are renewed"
    command("show", listed, _some, _show, _ca, _common)
    command("account", "show, create or change an account at a CA", _account)
    return parser


def _add(commands: Any, name: str, help: str, *parts: Part) -> None:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    for part in parts:
        part(parser)


def _common(parser: Parser) -> None:
    group = parser.add_argument_group("output and files")
    group.add_argument("--folder", type=Path, metavar=FOLDERS, help="where keys and certificates are")
    group.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument("-v", "--verbose", action="store_true", help="tell each request to the CA")


def _ca(parser: Parser) -> None:
    group = parser.add_argument_group("the CA")
    group.add_argument(
        "--directory",
        type=_directory,
        metavar=CAS,
        help=f"the CA: a URL, or {', '.join(DIRECTORIES)}; "
        f"if not given, the only one of the folder; if there is none, {DEFAULT}",
    )
    group.add_argument(
        "--ca-file", type=_file_or_empty, metavar=FILES, help="PEM file of the roots to trust for its HTTPS"
    )
    group.add_argument(
        "--allow-host", action="append", metavar="HOST", help="another host its URLs may be on"
    )
    proxy = group.add_mutually_exclusive_group()
    proxy.add_argument("--proxy", type=_proxy, metavar="PROXY", help="the proxy to go through: a URL")
    proxy.add_argument(
        "--proxy-file", type=_file_or_empty, metavar=FILES, help="file with the proxy's URL and password"
    )


def _new_account(parser: Parser) -> None:
    group = parser.add_argument_group("a new account")
    group.add_argument("--agree-terms", action="store_true", help="agree to the CA's terms")
    group.add_argument(
        "--contact", type=_contact, action="append", metavar="MAIL", help="where the CA can reach you"
    )
    group.add_argument("--eab-kid", metavar="ID", help="external account binding: the key's id")
    group.add_argument(
        "--eab-key-file", type=_file, metavar=FILES, help="file with its HMAC key, in base64url"
    )
    group.add_argument("--eab-algorithm", choices=("HS256", "HS384", "HS512"), help="HS256 if not given")


def _obtain(parser: Parser) -> None:
    parser.add_argument(
        "-d", "--domain", type=_names, action="append", required=True, metavar="NAME",
        help="a name (or IP address) for it; again for each more",
    )  # fmt: skip
    how = parser.add_argument_group("proving the names (one of them)").add_mutually_exclusive_group()
    how.add_argument("--webroot", type=_folder, metavar=FOLDERS, help="a web server's root folder")
    how.add_argument(
        "--standalone", type=_address, nargs="?", const=("", 80), metavar="PORT",
        help="a server of our own on this port, or HOST:PORT; 80 if not given",
    )  # fmt: skip
    how.add_argument("--hook", metavar=COMMANDS, help="a command that publishes a challenge")
    more = parser.add_argument_group("with --hook")
    more.add_argument("--cleanup-hook", metavar=COMMANDS, help="takes it down; else --hook does")
    more.add_argument("--challenge-type", choices=HOOK_TYPES, help="dns-01 if not given")
    cert = parser.add_argument_group("the certificate")
    cert.add_argument(
        "--name", type=_name, metavar=CERTIFICATES, help="of its files; else its first name"
    )
    cert.add_argument("--key-type", choices=tuple(KEY_TYPES), help="of a new key; p256 if not given")
    cert.add_argument("--profile", metavar="PROFILE", help="one of the CA's profiles")
    cert.add_argument("--preferred-chain", metavar="CN", help="the chain to a root of this name")
    cert.add_argument("--deploy-hook", metavar=COMMANDS, help="run after each new certificate")
    cert.add_argument(
        "--hook-timeout", type=_seconds, metavar="SECONDS", help="how long a hook may take; 600 if not given"
    )
    cert.add_argument("--force", action="store_true", help="a new one, even if it is not time")


def _some(parser: Parser) -> None:
    parser.add_argument(
        "name", type=_name, nargs="*", metavar=CERTIFICATES, help="only these certificates"
    )


def _renew(parser: Parser) -> None:
    parser.add_argument("--force", action="store_true", help="even if it is not time")


def _revoke(parser: Parser) -> None:
    parser.add_argument(
        "name", type=_name, nargs="?", metavar=CERTIFICATES, help="a certificate of the folder"
    )
    parser.add_argument("--reason", choices=tuple(REASONS), default="unspecified", help="why")
    parser.add_argument("--cert", type=_file, metavar=FILES, help="PEM file of another certificate")
    parser.add_argument("--key", type=_file, metavar=FILES, help="its key, if no account of ours has it")


def _show(parser: Parser) -> None:
    parser.add_argument("--offline", action="store_true", help="do not ask the CAs when to renew")


def _account(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, help: str, *parts: Part) -> None:
        _add(actions, name, help, *parts, _ca, _common)

    action("show", "show the accounts, and whether the CA knows them")
    action("create", "create an account, or find the one of the key", _key_type, _new_account)
    action("contacts", "replace the account's contacts; none: remove them", _contacts)
    action("rollover", "replace the account's key by a new one", _key_type)
    action("deactivate", "deactivate the account, for good", _yes)


def _key_type(parser: Parser) -> None:
    parser.add_argument("--key-type", choices=tuple(KEY_TYPES), help="of a new key; p256 if not given")


def _contacts(parser: Parser) -> None:
    parser.add_argument("contact", nargs="*", type=_contact, metavar="MAIL", help="a mail address")


def _yes(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="really: it cannot be undone")


# --- what arguments mean ------------------------------------------------------------------------


def _directory(text: str) -> str:
    try:
        return directory_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _name(text: str) -> str:
    """A final dot is not part of a name: example.org. is example.org."""
    return text.lower().removesuffix(".")


def _names(text: str) -> list[str]:
    names = [_name(name.strip()) for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name in it")
    return names


def _contact(text: str) -> str:
    """A mail address, or any URL."""
    url = text if ":" in text else f"mailto:{text}"
    if url.startswith("mailto:") and "@" not in url:
        raise argparse.ArgumentTypeError(f"{text!r} is no mail address")
    return url


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} has no port: it is PORT, HOST:PORT or [ADDRESS]:PORT")
    return host.strip("[]"), int(port)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def _file_or_empty(text: str) -> str:
    """A file, or nothing: none any more."""
    return text and _regular_file(text)


def _regular_file(text: str) -> str:
    """A file for renewals to read, too: no pipe, such as a shell's <(...)."""
    path = _file(text)
    if not Path(path).is_file() or path.startswith(("/dev/", "/proc/")):
        raise argparse.ArgumentTypeError(f"{text}: renewals need it, too, and this is no regular file")
    return path


def _file(text: str) -> str:
    path = Path(text)
    try:
        path.open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return str(path.absolute())  # a renewal starts elsewhere


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return str(Path(text).absolute())


def _proxy(text: str) -> str:
    try:
        password = urlsplit(text).password
    except ValueError:
        password = None
    if password is not None:
        raise argparse.ArgumentTypeError("everybody can see a password that is given here; use --proxy-file")
    return text
