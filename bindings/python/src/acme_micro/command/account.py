"""``acme-micro account``: show, create, contacts, rollover, deactivate."""

from __future__ import annotations

import argparse
from typing import Any

from .._names import ACCOUNT_KEY, UNUSED
from ..aio import AsyncClient
from ..errors import AccountError, AcmeError, ProblemError
from ..keys import PrivateKey
from ..store import refuses_key
from .cas import DEFAULT, DIRECTORIES
from .failure import UsageError, advise, document, kind_of
from .hints import ROLLOVER
from .layout import DEACTIVATED, NEXT, Ca, Layout
from .output import Output
from .parser import KEY_TYPES
from .text import plain


async def account(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    if arguments.action == "show":
        return await _show(arguments, layout, output)
    default = DIRECTORIES[DEFAULT] if arguments.action == "create" else None
    ca = layout.ca(arguments, default)
    if arguments.action != "create" and not ca.has_account:
        raise _no_key(ca)
    text = await _ACTIONS[arguments.action](ca, arguments, output)
    output.result(text, {"command": "account", "action": arguments.action, "account": _account(ca)})
    return 0


async def _show(arguments: argparse.Namespace, layout: Layout, output: Output) -> int:
    """Shows the accounts. An account that is unknown to the CA is a result; a CA that does not respond is a
    failure."""
    found: list[dict[str, Any]] = []
    failures: list[Exception] = []

    def unknown(account: dict[str, Any], error: Exception) -> None:
        output.error(error, about=account["ca"])
        failures.append(error)
        found.append({**account, "is_valid": None, "terms_url": None, "error": document(error)})

    cas = layout.cas(arguments)
    for name, error in layout.unusable.items():
        unknown({"ca": name}, error)
    for ca in cas:
        account = {"ca": ca.name}
        try:
            if not ca.has_account and not ca.store.account_url:
                continue
            account = _account(ca)
            found.append(await _check_account(ca, account, output))
        except Exception as error:  # a bug, too: it must not hide the others
            unknown(account, error)
    text = "\n".join(map(_text, found)) or f"there is no account in {layout.shown}"
    result = {"command": "account", "action": "show", "accounts": found}
    output.result(text, {"ok": not failures, **result})
    return kind_of(failures[0])[1] if failures else 0


async def _check_account(ca: Ca, account: dict[str, Any], output: Output) -> dict[str, Any]:
    """Asks the CA about an account."""
    if not ca.has_account:
        lost = _no_key(ca)
        output.error(lost, about=ca.name)
        return {**account, "is_valid": False, "terms_url": None, "error": document(lost)}
    async with ca.client() as client:
        output.step(f"asking {ca.name}")
        try:
            await client.find_account()
        except AccountError as error:
            hint = ROLLOVER if ca.has_next_account_key else ca.another_account
            output.error(error, about=ca.name, hint=hint)
            found = {**document(error), "hint": hint}
            return {**account, "is_valid": False, "terms_url": client.terms_url, "error": found}
        return {**account, "url": client.account_url, "is_valid": True, "terms_url": client.terms_url}


async def _create(ca: Ca, arguments: argparse.Namespace, output: Output) -> str:
    if arguments.agree_terms:
        for path in ca.set_damaged_files_aside():
            output.note(f"{ca.name}: a damaged file of the account is now {path}")
    if ca.has_next_account_key:
        await _end_rollover(ca, arguments, output)
    key = ca.store.account_key(KEY_TYPES[arguments.key_type or "p256"])
    try:
        url = await _register(ca, key, arguments, output)
    except AccountError as error:
        if not arguments.agree_terms:
            advise(error, ca.another_account)
            raise
        ca.set_account_aside(UNUSED)
        output.note(f"{ca.name}: {error}")
        output.note(f"{ca.name}: the files of this account are renamed to end in {UNUSED}")
        key = ca.store.account_key(KEY_TYPES[arguments.key_type or _type(key)])
        url = await _register(ca, key, arguments, output)
    if arguments.key_type not in (None, _type(key)):
        how = f"to replace it, run acme-micro account rollover --key-type {arguments.key_type}"
        output.note(f"{ca.name}: the account's key stays {_type(key)}; {how}")
    return f"{ca.name}: the account is {plain(url)}"


async def _end_rollover(ca: Ca, arguments: argparse.Namespace, output: Output) -> None:
    """Ends the change of an account's key if the old key is gone, or if the CA knows neither of the keys."""
    is_new = arguments.agree_terms and await _is_known(ca, NEXT)
    if is_new and not ca.has_account:
        ca.replace_account_key(ca.path / NEXT)
    elif is_new or not arguments.agree_terms or await _is_known(ca, ACCOUNT_KEY):
        raise UsageError(f"{ca.name}: the account has two keys", ROLLOVER)
    else:
        ca.set_account_aside(UNUSED)
        output.note(f"{ca.name}: no key has an account; the account's files are renamed to end in {UNUSED}")


async def _is_known(ca: Ca, file: str) -> bool:
    """Whether the key in this file has an account that is usable."""
    key = ca.account_key(file)
    if key is None:
        return False
    async with ca.client(account_key=key) as client:
        return await _is_usable(client)


async def _register(ca: Ca, key: PrivateKey, arguments: argparse.Namespace, output: Output) -> str:
    async with ca.client(arguments) as client:
        output.step(f"asking {ca.name}")
        try:
            url = await client.register()
        except AcmeError as error:
            if refuses_key(error) and not ca.has_account:
                advise(error, _another("create", key))
            raise
        return url


async def _contacts(ca: Ca, arguments: argparse.Namespace, output: Output) -> str:
    async with ca.client() as client:
        await client.update_contacts(arguments.contact)
    return f"{ca.name}: the account's contacts are now {', '.join(arguments.contact) or 'empty'}"


async def _rollover(ca: Ca, arguments: argparse.Namespace, output: Output) -> str:
    """Replaces the account's key.

    The new key is on the disk before the CA gets a request, and the old one stays until the CA has
    accepted the new one. After a killed run, the next one continues with both.
    """
    async with ca.locked(), ca.client() as client:
        path = ca.path / NEXT
        ca.account_key(NEXT)  # a damaged file is reported
        key = PrivateKey.load_or_generate(path, KEY_TYPES[arguments.key_type or "p256"])
        try:
            await client.change_key(key)
        except AcmeError as error:
            if refuses_key(error):
                ca.set_next_account_key_aside(path)
                advise(error, _another("rollover", key))
            elif isinstance(error, ProblemError) and not await _is_usable(client):
                advise(error, ca.another_account)
            raise
        ca.replace_account_key(path)
    if arguments.key_type not in (None, _type(key)):
        how = f"run the same command again for a {arguments.key_type} key"
        output.note(f"{ca.name}: this has finished an earlier change to a {_type(key)} key; {how}")
    return f"{ca.name}: the account has a new key, {key.thumbprint}"


async def _deactivate(ca: Ca, arguments: argparse.Namespace, output: Output) -> str:
    if not arguments.yes:
        raise UsageError("deactivating an account cannot be undone", "add --yes to do it")
    what = "the account is deactivated"
    async with ca.client() as client:
        try:
            await client.deactivate()
        except ProblemError as error:
            if await _is_usable(client):
                raise
            if await _is_known(ca, NEXT):
                advise(error, ROLLOVER)
                raise
            what = f"the account is not usable any more ({plain(str(error))})"
    ca.set_account_aside(DEACTIVATED)
    return f"{ca.name}: {what}; its key in {ca.path_of('')} is renamed to end in {DEACTIVATED}"


async def _is_usable(client: AsyncClient) -> bool:
    try:
        await client.find_account()
    except AccountError:
        return False
    return True


def _no_key(ca: Ca) -> AccountError:
    """Returns the error of an account without its key."""
    path = ca.path / ACCOUNT_KEY
    url = ca.store.account_url
    if url is None and not ca.has_next_account_key:
        error = AccountError(f"{ca.name}: there is no account in {ca.path}")
        advise(error, f"run acme-micro account create --agree-terms --directory {ca.argument}")
        return error
    error = AccountError(f"{path} is gone, the only access to the account {plain(url or '')}".rstrip())
    advise(error, f"put a copy of the file there; or {ca.another_account}")
    return error


def _type(key: PrivateKey) -> str:
    return key.type.name.lower()


def _another(action: str, key: PrivateKey) -> str:
    """Returns the hint for a key that the CA refuses."""
    type = "rsa2048" if _type(key) == "p256" else "p256"
    return f"run acme-micro account {action} --key-type {type} for a key of another type"


_ACTIONS = {
    "create": _create,
    "contacts": _contacts,
    "rollover": _rollover,
    "deactivate": _deactivate,
}


def _account(ca: Ca) -> dict[str, Any]:
    """Describes an account for programs."""
    found = {"ca": ca.name, "directory": ca.settings.directory, "url": ca.store.account_url}
    if not ca.has_account:
        return {**found, "key_file": None}
    key = ca.store.account_key()
    return {
        **found,
        "key_file": ca.path_of(ACCOUNT_KEY),
        "key_type": _type(key),
        "thumbprint": key.thumbprint,
    }


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['ca']}: {plain(found.get('url') or 'URL unknown')}"]
    if "thumbprint" in found:
        lines.append(f"  key    {found['key_file']} ({found['key_type']}, {found['thumbprint']})")
    if found["terms_url"]:
        lines.append(f"  terms  {plain(found['terms_url'])}")
    if not found["is_valid"]:
        how = "unknown whether usable" if found["is_valid"] is None else "not usable"
        lines.append(f"  {how}: {found['error']['message']}")
    return "\n".join(lines)
