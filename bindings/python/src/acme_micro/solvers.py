"""Solvers publish challenges, so that the CA can validate who controls a name.

A solver is any object with these two methods. For dns-01, write your own in ten lines::

    class MyDns:
        challenge_types = ("dns-01",)

        def publish(self, challenges):
            for c in challenges:
                my_zone.add_txt(c.dns_name, c.dns_value)
            my_zone.wait_until_spread()

        def unpublish(self, challenges):
            for c in challenges:
                my_zone.remove_txt(c.dns_name, c.dns_value)
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from ctypes import create_string_buffer
from typing import Any, Protocol

from . import _atomic_write, _native
from ._arguments import PathLike, to_text
from .errors import InvalidArgument
from .steps import Challenge

__all__ = [
    "AsyncSolver",
    "MemoryHttp01",
    "Solver",
    "Webroot",
    "http01_answer",
]

FOLDERS = (".well-known", "acme-challenge")
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Mode of these folders: a web server of another user enters them.
PUBLIC = 0o755
# Permission to enter a folder, for others than its owner.
ENTER = 0o011
# The names in the inner folder: files of challenges, and temporary files.
MADE = re.compile(rf"[A-Za-z0-9_-]{{22,}}|{re.escape(_atomic_write.HIDDEN)}[0-9a-f]+")

logger = logging.getLogger("acme_micro")


class Solver(Protocol):
    """An object that publishes challenges and removes them.

    It may have an attribute ``challenge_types``: the types that :meth:`Client.obtain` then asks for.
    A solver for ``"onion-csr-01"`` or ``"device-attest-01"`` also has a method ``payload(challenge)``,
    which returns the payload of the response to the challenge, such as ``{"attObj": ...}``.
    """

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Publishes all of these challenges, and returns after that. An exception ends the order."""

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Removes the same challenges, also those that could not be published."""


class AsyncSolver(Protocol):
    """A :class:`Solver` with coroutines. :class:`AsyncClient` takes either."""

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Publishes all of these challenges, and returns after that. An exception ends the order."""

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Removes the same challenges, also those that could not be published. It is called a second time
        if it is cancelled itself, as ``asyncio.run`` does at its end."""


def payloads(solver: Any, challenges: tuple[Challenge, ...]) -> Iterable[tuple[int, bytes]]:
    """Yields index and payload of the challenges whose response the solver makes."""
    for index, challenge in enumerate(challenges):
        if challenge.object is not None:
            yield index, json.dumps(dict(solver.payload(challenge))).encode()


def _check_http01(challenge: Challenge) -> str:
    if challenge.http_path is None:
        raise InvalidArgument(f"this solver is for http-01, not {challenge.type}")
    return challenge.http_path


class Webroot:
    """http-01 by files below the root folder of a web server that serves port 80 of each name.

    No symbolic link is followed, so that a user who can write to the folder cannot make files
    elsewhere. The files, and the folders that it makes, can be read by other users, whatever the umask.
    """

    challenge_types = ("http-01",)

    def __init__(self, path: PathLike):
        self._path = os.fspath(path)
        self._made: Counter[str] = Counter()

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Writes a file for each challenge, which the web server can read."""
        try:
            self._publish(challenges)
        except OSError as error:
            # The error's own path is relative to a descriptor, or missing.
            path = os.path.join(self._path, *FOLDERS)
            raise OSError(error.errno, error.strerror, path) from error

    def _publish(self, challenges: tuple[Challenge, ...]) -> None:
        folder = self._open(create=True)
        try:
            for challenge in challenges:
                _check_http01(challenge)
                self._made[challenge.token] += 1
                # A file that a killed run has left is replaced, and so is a symbolic link. The mode
                # lets a web server of another user read it.
                body = challenge.key_authorization.encode()
                _atomic_write.write(folder, challenge.token, body, 0o644, durable=False)
        finally:
            os.close(folder)

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Removes the files."""
        try:
            folder = self._open(create=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return  # there can be no file
            raise
        try:
            for challenge in challenges:
                token = challenge.token
                if self._made[token] > 1:
                    self._made[token] -= 1  # another name still needs it
                # A file of a killed run is removed only if it has this challenge's content.
                elif self._made.pop(token, 0) or _holds(folder, challenge):
                    with suppress(FileNotFoundError):
                        os.unlink(token, dir_fd=folder)
        finally:
            os.close(folder)

    def _open(self, *, create: bool) -> int:
        """Opens the folder for the files, one step at a time."""
        folder = os.open(self._path, FLAGS)
        path = self._path
        for name in FOLDERS:
            path = os.path.join(path, name)
            try:
                inner = _make_and_enter(folder, name, path) if create else _enter(folder, name)
            finally:
                os.close(folder)
            folder = inner
        return folder


def _enter(folder: int, name: str) -> int:
    try:
        return os.open(name, FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        with suppress(OSError):
            target = os.readlink(name, dir_fd=folder)
            error = OSError(errno.ELOOP, f"{name} is a symbolic link to {target}, which is not followed")
        raise error from None


def _make_and_enter(folder: int, name: str, path: PathLike) -> int:
    """Opens a folder; makes it if it does not exist."""
    is_new = False
    with suppress(FileExistsError):
        os.mkdir(name, PUBLIC, dir_fd=folder)
        is_new = True
    inner = _enter(folder, name)
    info = os.fstat(inner)
    if info.st_mode & PUBLIC == PUBLIC:
        return inner
    if is_new or (_is_ours(info, os.fstat(folder)) and _is_public(inner, name)):
        with suppress(OSError):  # a file system without modes
            os.fchmod(inner, stat.S_IMODE(info.st_mode) | PUBLIC)
    elif info.st_uid == os.geteuid() and not info.st_mode & ENTER:
        text = "%s: a web server of another user cannot enter this folder; chmod 755 it"
        logger.warning(text, os.fsdecode(path))
    return inner


def _is_ours(info: os.stat_result, parent: os.stat_result) -> bool:
    """Whether an earlier run with a stricter umask may have made this folder. A folder of another group may
    have its mode for a reason."""
    group = parent.st_gid if parent.st_mode & stat.S_ISGID else os.getegid()
    return info.st_uid == os.geteuid() and info.st_gid == group


def _is_public(folder: int, name: str) -> bool:
    """Whether everything in the folder is for everybody: the content of .well-known is (RFC 8615), but other
    files beside the challenges may be there by mistake."""
    return name == FOLDERS[0] or all(map(MADE.fullmatch, os.listdir(folder)))


def _holds(folder: int, challenge: Challenge) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(challenge.token, flags, dir_fd=folder), "rb") as file:
            return file.read(1024) == challenge.key_authorization.encode()
    except OSError:
        return False


def with_types_of(solver: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Adds the types of challenge that the solver supports, unless the options have some."""
    types = getattr(solver, "challenge_types", None)
    return options if types is None else {"challenge_types": types, **options}


def answer_from(function: Any, handle: Any, path: str) -> bytes | None:
    if not isinstance(path, str):
        raise TypeError(f"path must be str, not {type(path).__name__}")
    # A CA's path is UTF-8 without NUL; any other path does not match.
    asked = path.encode("utf-8", "replace")
    room = create_string_buffer(1024)
    size = function(handle, asked, len(asked), room, len(room))
    return room.raw[:size] if size else None


def http01_answer(thumbprint: str, path: str) -> bytes | None:
    """Returns the body of the response to a CA's http-01 request for this path, or None.

    It needs only the :attr:`PrivateKey.thumbprint` of the account's key. So a web server in another
    process or on another machine can respond without knowing the challenges.
    """
    return answer_from(_native.acme_http01_answer, to_text(thumbprint, "thumbprint"), path)


class MemoryHttp01:
    """http-01 from memory, for a web server in this process.

    Call :meth:`answer` with a request's path, or wrap a WSGI application in :meth:`wsgi` or an ASGI
    application in :meth:`asgi`.
    """

    challenge_types = ("http-01",)

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Makes :meth:`answer` return the bodies of these challenges."""
        for challenge in challenges:
            self._answers[_check_http01(challenge)] = challenge.key_authorization.encode()

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Removes the bodies of these challenges."""
        for challenge in challenges:
            self._answers.pop(challenge.http_path or "", None)

    def answer(self, path: str) -> bytes | None:
        """Returns the body to serve at this path, or None."""
        return self._answers.get(path)

    def wsgi(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Returns a WSGI application that serves challenges, and passes others to ``application``."""

        def middleware(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            body = self.answer(environ.get("PATH_INFO", ""))
            if body is None:
                return application(environ, start_response)
            headers = [
                ("Content-Type", "application/octet-stream"),
                ("Content-Length", str(len(body))),
            ]
            start_response("200 OK", headers)
            return [body]

        return middleware

    def asgi(self, application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Returns an ASGI application that serves challenges, and passes others to ``application``."""

        async def middleware(scope: dict[str, Any], receive: Any, send: Any) -> None:
            path = scope.get("path", "") if scope["type"] == "http" else ""
            body = self.answer(path)
            if body is None:
                return await application(scope, receive, send)
            headers = [
                (b"content-type", b"application/octet-stream"),
                (b"content-length", str(len(body)).encode()),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return middleware
