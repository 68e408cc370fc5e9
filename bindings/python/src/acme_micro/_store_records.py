"""The files of a :class:`Store` as records, for the operations of a client of the library.

A record's value is JSON, and its version a digest of the files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ._folder import PUBLIC, SECRET, Folder
from ._names import CHAIN, KEY, ORDER, canonical
from ._origin import Origin
from ._values import text_of
from .errors import ConflictError, StoreError
from .keys import PrivateKey

__all__ = ["ACCOUNT_KEY", "ACCOUNT_URL", "UNUSED", "StoreRecords", "read_url"]

ACCOUNT_KEY, ACCOUNT_URL = "account.pem", "account.url"
# Ending of the file of a key that the CA has refused.
UNUSED = ".unused"
# The members of a certificate's record: the ending of the file, and its mode. They are written in this order: a new
# key before the chain for it, the chain before the key takes the old one's place, and the order last.
MEMBERS = (
    ("next_key", f".next{KEY}", SECRET),
    ("chain", CHAIN, PUBLIC),
    ("key", KEY, SECRET),
    ("schedule", ".schedule.json", PUBLIC),
    ("order", ORDER, SECRET),
)
# The format of the values.
FORMAT = 1

logger = logging.getLogger("acme_micro")

Members = dict[str, Any]


class StoreRecords:
    """The account and the certificates of a folder, for one client."""

    def __init__(
        self,
        folder: Folder,
        origin: Origin,
        directory_url: str,
        read_key: Callable[[str], PrivateKey | None],
        find_file: Callable[[str], str],
        account: Members,
    ):
        """``account`` has the members ``key`` and ``url`` that the client does not take from the folder."""
        self.folder, self._origin, self._directory_url = folder, origin, directory_url
        self._read_key, self._find_file = read_key, find_file
        self._account = account
        self._files: dict[str, str] = {}
        self._writing = threading.Lock()

    def name_for(self, file: str) -> str:
        """Returns the name in records of a certificate with these files, which are named without their
        endings."""
        # The library writes each name in one way. The files of an older version may have another one.
        name = file.lower() if canonical(file) == file.lower() else f"{file}{CHAIN}".lower()
        self._files[name] = file
        return name

    def get(self, name: str) -> tuple[int, bytes] | None:
        if name.startswith("account/"):
            members = self._read_account()
            version = _version(self._account if self._is_other_account else members)
            members.update(self._account)
        else:
            file = self._file_of(name)
            members = self._read_certificate(file)
            version = _version(members)
            # A certificate of another CA, or of an older version, is not replaced without need.
            members["ca"] = self._origin.issuer_of(file)
        return (version, _json(members)) if version else None

    def put(self, name: str, expected: int, value: bytes | None) -> int:
        new: Members = {} if value is None else json.loads(value)
        with self._writing:
            if name.startswith("account/"):
                return self._put_account(name, expected, new)
            return self._put_certificate(name, expected, new)

    def list(self, prefix: str, after: str, limit: int) -> Iterable[str]:
        raise NotImplementedError  # no operation lists the records

    def _file_of(self, name: str) -> str:
        rest = name.split("/", 2)[2]
        return self._files.get(rest) or self._find_file(rest)

    @property
    def _is_other_account(self) -> bool:
        return "key" in self._account

    def _read_account(self) -> Members:
        key = self._read_key(ACCOUNT_KEY)
        if key is None:
            return {}
        return {"ca": self._origin.url, "key": key.pem, "url": read_url(self.folder)}

    def _put_account(self, name: str, expected: int, new: Members) -> int:
        if self._is_other_account:
            self._account = {"key": new.get("key"), "url": new.get("url")}
            return _version(self._account)
        old = self._read_account()
        if _version(old) != expected:
            raise _conflict(name)
        if not new:
            return self._set_refused_key_aside(name, old)
        self._account.clear()
        if not old:
            self.folder.write(ACCOUNT_KEY, new["key"].encode(), SECRET)
        url = new.get("url")
        if url:
            # Now the folder belongs to this CA.
            known = old.get("url")
            files = [one[: -len(CHAIN)] for one in self.folder.names() if one.endswith(CHAIN)]
            self._origin.note(self._directory_url, files, known)
            if url != known:
                self.folder.write(ACCOUNT_URL, f"{url}\n".encode(), PUBLIC)
        return _version(self._read_account())

    def _set_refused_key_aside(self, name: str, old: Members) -> int:
        """Renames the account's key because the CA refuses it. The next client generates another one.

        Not if the key may have an account, or while other work in the folder is in progress.
        """
        if old.get("url") or not self.folder.acquire(ACCOUNT_KEY):
            raise _conflict(name)
        try:
            new, path = self.folder.retire(ACCOUNT_KEY, UNUSED), self.folder.path_of(ACCOUNT_KEY)
            logger.warning("%s: the CA refuses this key; it is now in %s", path, new)
        finally:
            self.folder.release(ACCOUNT_KEY)
        return 0

    def _read_certificate(self, file: str) -> Members:
        found: Members = {}
        for member, ending, mode in MEMBERS:
            if mode == SECRET and member != "order":
                key = self._read_key(file + ending)
                found[member] = key and key.pem
                continue
            data = self.folder.read(file + ending)
            found[member] = None if data is None else text_of(data, "replace")
        found["schedule"] = _object(found["schedule"])
        return found

    def _put_certificate(self, name: str, expected: int, new: Members) -> int:
        file = self._file_of(name)
        old = self._read_certificate(file)
        if _version(old) != expected:
            raise _conflict(name)
        new = {member: new.get(member) for member in old}
        members = MEMBERS
        if old["next_key"] and not new["next_key"]:
            members = (*MEMBERS[1:], MEMBERS[0])  # until it is the key, it stays
        for member, ending, mode in members:
            text = new[member]
            if text == old[member]:
                continue
            if text is None:
                self.folder.remove(file + ending)
                continue
            if member == "schedule":
                text = json.dumps(text)
            try:
                self.folder.write(file + ending, text.encode(), mode)
            except StoreError as error:
                if member == "order" and old["order"]:
                    logger.warning("the order cannot be resumed after a crash: %s", error)
                raise
            if member == "chain":
                self._origin.note_issued(file)
        return _version(new)


def _object(text: str | None) -> Members | None:
    """Parses a JSON object; None: it is damaged. Nothing that matters is in it alone."""
    try:
        found = json.loads(text or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_url(folder: Folder) -> str | None:
    """Returns the account's URL."""
    text = text_of(folder.read(ACCOUNT_URL) or b"", "replace").split("\n")[0].strip()
    return text or None


def _version(members: Members) -> int:
    """Returns a digest of the members as the record's version; 0: there are none."""
    if not any(value is not None for value in members.values()):
        return 0
    return max(1, int.from_bytes(hashlib.sha256(_json(members)).digest()[:8], "big"))


def _json(members: Members) -> bytes:
    there = {name: value for name, value in members.items() if value is not None}
    return json.dumps({"format": FORMAT, **there}).encode()


def _conflict(name: str) -> ConflictError:
    return ConflictError(f"{name}: another program or thread has changed this record meanwhile")
