"""The command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from .._native import KeyType, RevocationReason
from . import usage
from .cas import DEFAULT, DIRECTORIES, directory_of
from .failure import UsageError
from .system_text import from_system, to_system

KEY_TYPES = {type.name.lower(): type for type in KeyType}
REASONS = {reason.name.lower().replace("_", "-"): reason for reason in RevocationReason}
HOOK_TYPES = ("dns-01", "http-01", "dns-account-01", "dns-persist-01")
# The kinds of values of options, for shell completion.
FILES, FOLDERS, COMMANDS, CERTIFICATES, CAS = "FILE", "DIR", "CMD", "NAME", "URL"


class Once(argparse.Action):
    """An option with one value. A second one is refused: it would replace the first without a word."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        given = vars(namespace).setdefault("_given", set())
        if self.option_strings and self.dest in given:
            raise argparse.ArgumentError(self, "this option can be given only once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser that raises an error instead of exiting. Options cannot be abbreviated, so that
    scripts work with later versions."""

    def __init__(self, *arguments: Any, **options: Any):
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)
        for name in (None, "store"):
            self.register("action", name, Once)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


# A function that adds some arguments to a parser.
Part = Callable[[Parser], None]


def make_parser() -> Parser:
    parser = Parser(
        prog="acme-micro",
        description=usage.DESCRIPTION,
        epilog=usage.EPILOG,
    )
    parser.add_argument("-V", "--version", action="store_true", help=usage.VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, *parts: Part) -> None:
        _add(commands, name, usage.COMMANDS[name], *parts)

    command("obtain", _obtain, _ca, _new_account, _common)
    command("renew", _some, _renew, _ca, _common)
    command("daemon", _common)
    command("move", _one, _ca, _new_account, _common)
    command("revoke", _revoke, _ca, _common)
    command("delete", _one, _ca, _common)
    command("show", _some, _show, _ca, _common)
    command("account", _account)
    return parser


def _add(commands: Any, name: str, help: str, *parts: Part) -> None:
    parser = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    for part in parts:
        part(parser)


def _common(parser: Parser) -> None:
    group = parser.add_argument_group("output and files")
    group.add_argument("--folder", type=_path, metavar=FOLDERS, help="folder of keys and certificates")
    group.add_argument("--json", action="store_true", help="write the result as JSON to standard output")
    group.add_argument("-q", "--quiet", action="store_true", help="write errors only")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="write each step and each request to the CA"
    )


def _ca(parser: Parser) -> None:
    group = parser.add_argument_group("the CA")
    group.add_argument(
        "--directory",
        type=_directory,
        metavar=CAS,
        help=f"the CA: a URL, or {', '.join(DIRECTORIES)}; "
        f"default: the only CA in the folder or, in an empty folder, {DEFAULT}",
    )
    group.add_argument(
        "--ca-file", type=_file_or_empty, metavar=FILES,
        help="PEM file of the roots to trust for the CA's HTTPS",
    )  # fmt: skip
    group.add_argument(
        "--allow-host", action="append", metavar="HOST", help="allow another host in the CA's URLs"
    )
    proxy = group.add_mutually_exclusive_group()
    proxy.add_argument("--proxy", type=_proxy, metavar="PROXY", help="URL of a proxy to the CA")
    proxy.add_argument(
        "--proxy-file", type=_file_or_empty, metavar=FILES,
        help="file with the proxy's URL, including a password",
    )  # fmt: skip


def _new_account(parser: Parser) -> None:
    group = parser.add_argument_group("a new account")
    group.add_argument("--agree-terms", action="store_true", help="agree to the CA's terms of service")
    group.add_argument(
        "--contact", type=_contact, action="append", metavar="MAIL",
        help="a mail address at which the CA can reach you",
    )  # fmt: skip
    group.add_argument("--eab-kid", metavar="ID", help="external account binding: key identifier")
    group.add_argument(
        "--eab-key-file", type=_file, metavar=FILES,
        help="external account binding: file with the HMAC key in base64url",
    )  # fmt: skip
    group.add_argument(
        "--eab-algorithm", choices=("HS256", "HS384", "HS512"),
        help="external account binding: algorithm; default: HS256",
    )  # fmt: skip


def _obtain(parser: Parser) -> None:
    parser.add_argument(
        "-d", "--domain", type=_names, action="append", required=True, metavar="NAME",
        help="a DNS name or IP address; repeat the option for more names",
    )  # fmt: skip
    ways = parser.add_argument_group("how to publish challenges (one of these)")
    how = ways.add_mutually_exclusive_group()
    how.add_argument(
        "--webroot", type=_folder, action="append", metavar=FOLDERS,
        help="in the root folder of a web server on port 80; repeat the option for more folders",
    )  # fmt: skip
    how.add_argument(
        "--standalone", type=_address, nargs="?", const=("", 80), metavar="PORT",
        help="by a small web server on this port, or on HOST:PORT; default: 80",
    )  # fmt: skip
    how.add_argument("--hook", metavar=COMMANDS, help="by this command, for instance in the DNS")
    more = parser.add_argument_group("with --hook")
    more.add_argument(
        "--cleanup-hook", metavar=COMMANDS, help="command that removes a challenge; default: --hook"
    )
    more.add_argument("--challenge-type", choices=HOOK_TYPES, help="type of challenge; default: dns-01")
    cert = parser.add_argument_group("the certificate")
    cert.add_argument(
        "--name", type=_name, metavar=CERTIFICATES, help="name of the files; default: the first DNS name"
    )
    cert.add_argument("--key-type", choices=tuple(KEY_TYPES), help="type of a new key; default: p256")
    cert.add_argument("--profile", metavar="PROFILE", help="a profile that the CA offers")
    cert.add_argument(
        "--preferred-chain", metavar="CN", help="choose the chain to a root with this common name"
    )
    cert.add_argument(
        "--deploy-hook", metavar=COMMANDS, help="command to run after each new certificate"
    )
    cert.add_argument(
        "--hook-timeout", type=_seconds, metavar="SECONDS", help="timeout of a hook; default: 600"
    )
    cert.add_argument("--force", action="store_true", help="renew even if the renewal is not due")


def _some(parser: Parser) -> None:
    parser.add_argument(
        "name", type=_name, nargs="*", metavar=CERTIFICATES, help="only these certificates"
    )


def _one(parser: Parser) -> None:
    parser.add_argument("name", type=_name, metavar=CERTIFICATES, help="the certificate")


def _renew(parser: Parser) -> None:
    parser.add_argument("--force", action="store_true", help="renew even if the renewal is not due")


def _revoke(parser: Parser) -> None:
    parser.add_argument(
        "name", type=_name, nargs="?", metavar=CERTIFICATES, help="a certificate in the folder"
    )
    parser.add_argument(
        "--reason", choices=tuple(REASONS), default="unspecified", help="reason; default: unspecified"
    )
    parser.add_argument("--cert", type=_file, metavar=FILES, help="PEM file of another certificate")
    parser.add_argument(
        "--key", type=_file, metavar=FILES, help="the key of --cert, if the account did not order it"
    )


def _show(parser: Parser) -> None:
    parser.add_argument(
        "--offline", action="store_true", help="do not ask the CAs for the times of renewal"
    )


def _account(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, help: str, *parts: Part) -> None:
        _add(actions, name, help, *parts, _ca, _common)

    action("show", "show the accounts, and whether the CAs know them")
    action("create", "create an account, or find the account of the key", _key_type, _new_account)
    action("contacts", "replace the account's contacts; without any: remove them", _contacts)
    action("rollover", "replace the account's key by a new key", _key_type)
    action("deactivate", "deactivate the account, which cannot be undone", _yes)


def _key_type(parser: Parser) -> None:
    parser.add_argument("--key-type", choices=tuple(KEY_TYPES), help="type of a new key; default: p256")


def _contacts(parser: Parser) -> None:
    parser.add_argument("contact", nargs="*", type=_contact, metavar="MAIL", help="a mail address")


def _yes(parser: Parser) -> None:
    parser.add_argument(
        "--yes", action="store_true", help="confirm that the account is to be deactivated"
    )


# --- values of arguments ------------------------------------------------------------------------


def _directory(text: str) -> str:
    try:
        return directory_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _name(text: str) -> str:
    """Removes a final dot, which is not part of a name: example.org. is example.org."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a terminal whose encoding is not UTF-8
        text = to_system(text)
    return text.lower().removesuffix(".")


def _names(text: str) -> list[str]:
    names = [_name(name.strip()) for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} contains an empty name")
    return names


def _contact(text: str) -> str:
    """Returns a URL: a mail address becomes one."""
    url = text if ":" in text else f"mailto:{text}"
    if url.startswith("mailto:") and "@" not in url:
        raise argparse.ArgumentTypeError(f"{text!r} is not a mail address")
    return url


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not PORT, HOST:PORT or [ADDRESS]:PORT")
    return host.strip("[]"), int(port)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 1 or more")
    return int(text)


def _file_or_empty(text: str) -> str:
    """Checks a file; an empty text removes the remembered one."""
    return text and _regular_file(text)


def _regular_file(text: str) -> str:
    """Checks a file that renewals read, too, so it cannot be a pipe such as a shell's <(...)."""
    path = _file(text)
    if not Path(to_system(path)).is_file() or path.startswith(("/dev/", "/proc/")):
        raise argparse.ArgumentTypeError(f"{text} is not a regular file: renewals need to read it, too")
    return path


def _file(text: str) -> str:
    path = _path(text)
    try:
        path.open("rb").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    return _absolute(path)


def _folder(text: str) -> str:
    path = _path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return _absolute(path)


def _absolute(path: Path) -> str:
    """Makes a path absolute: a renewal may start in another folder."""
    try:
        return from_system(str(path.absolute()))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the current folder is gone: {error.strerror}") from None


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    if text.startswith("~"):  # in a unit of systemd, or within quotes
        raise argparse.ArgumentTypeError(f"{text}: no shell has replaced the ~; write the whole path")
    return Path(to_system(text))


def _proxy(text: str) -> str:
    try:
        password = urlsplit(text).password
    except ValueError:
        password = None
    if password is not None:
        why = "other users can see a password on the command line; use --proxy-file"
        raise argparse.ArgumentTypeError(why)
    return text
