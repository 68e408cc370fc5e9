"""Solvers publish challenges, so that the CA sees who controls a name.

A solver is any object with two methods; dns-01 is ten lines of your own::

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

import json
import os
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


class Solver(Protocol):
    """Puts challenges in place, and takes them down.

    It may have an attribute ``challenge_types``, for :meth:`Client.obtain` to ask the CA for those.
    One for ``"onion-csr-01"`` or ``"device-attest-01"`` also has a method ``payload(challenge)``, which
    gives what the challenge is answered with, such as ``{"attObj": ...}``.
    """

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Puts all of these in place, and returns when they are. What it raises ends the order."""

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Takes the same ones down; also those that could not be put in place."""


class AsyncSolver(Protocol):
    """As :class:`Solver`, with coroutines; for :class:`AsyncClient`, which takes either."""

    async def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Puts all of these in place, and returns when they are. What it raises ends the order."""

    async def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """Takes the same ones down; also those that could not be put in place. When it is itself
        cancelled, which is what ``asyncio.run`` does in the end, it is called once more."""


def payloads(solver: Any, challenges: tuple[Challenge, ...]) -> Iterable[tuple[int, bytes]]:
    """What the solver wants those challenges to be answered with whose answer it makes."""
    for index, challenge in enumerate(challenges):
        if challenge.object is not None:
            yield index, json.dumps(dict(solver.payload(challenge))).encode()


def _check_http01(challenge: Challenge) -> str:
    if challenge.http_path is None:
        raise InvalidArgument(f"this solves http-01, not {challenge.type}")
    return challenge.http_path


class Webroot:
    """http-01 by files below the root folder of a web server that serves port 80 of every name.

    No symbolic link is followed: who may write to the folder must not lead us out of it.
    """

    challenge_types = ("http-01",)

    def __init__(self, path: PathLike):
        self._path = os.fspath(path)
        self._made: Counter[str] = Counter()

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """Writes a file for each of these, readable for the web server."""
        try:
            self._publish(challenges)
        except OSError as error:
            # What is relative to a descriptor, or has no name at all, would say little.
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
        """Removes the files again."""
        try:
            folder = self._open(create=False)
        except FileNotFoundError:
            return  # nothing could be put there
        try:
            for challenge in challenges:
                token = challenge.token
                if self._made[token] > 1:
                    self._made[token] -= 1  # another name needs it still
                # Not made by us, it is to be what a run that was killed has left.
                elif self._made.pop(token, 0) or _holds(folder, challenge):
                    with suppress(FileNotFoundError):
                        os.unlink(token, dir_fd=folder)
        finally:
            os.close(folder)

    def _open(self, *, create: bool) -> int:
        """The folder for the files, opened one step at a time."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(self._path, flags)
        for name in FOLDERS:
            try:
                if create:
                    try:
                        os.mkdir(name, 0o755, dir_fd=folder)
                    except FileExistsError:
                        pass
                inner = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder


def _holds(folder: int, challenge: Challenge) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(challenge.token, flags, dir_fd=folder), "rb") as file:
            return file.read(1024) == challenge.key_authorization.encode()
    except OSError:
        return False


def with_types_of(solver: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Asks for the types of challenge that the solver solves, unless the options say which."""
    types = getattr(solver, "challenge_types", None)
    return options if types is None else {"challenge_types": types, **options}


def answer_from(function: Any, handle: Any, path: str) -> bytes | None:
    if not isinstance(path, str):
        raise TypeError(f"path must be str, not {type(path).__name__}")
    # A path that is no text for C is none that a CA asks for.
    asked = path.encode("utf-8", "replace")
    room = create_string_buffer(1024)
    size = function(handle, asked, len(asked), room, len(room))
    return room.raw[:size] if size else None


def http01_answer(thumbprint: str, path: str) -> bytes | None:
    """The body to answer a CA's http-01 request for this path with, or None.

    By the account key's :attr:`PrivateKey.thumbprint` alone, so that a web server in another process
    or on another machine needs to know nothing else.
    """
    return answer_from(_native.acme_http01_answer, to_text(thumbprint, "thumbprint"), path)


class MemoryHttp01:
    """http-01 from memory, for a web server in this process.

    Ask :meth:`answer` for a path, or put :meth:`wsgi` in front of a WSGI application.
    """

    challenge_types = ("http-01",)

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}

    def publish(self, challenges: tuple[Challenge, ...]) -> None:
        """From now on :meth:`answer` knows these."""
        for challenge in challenges:
            self._answers[_check_http01(challenge)] = challenge.key_authorization.encode()

    def unpublish(self, challenges: tuple[Challenge, ...]) -> None:
        """From now on it does not."""
        for challenge in challenges:
            self._answers.pop(challenge.http_path or "", None)

    def answer(self, path: str) -> bytes | None:
        """The body to serve at this path, or None."""
        return self._answers.get(path)

    def wsgi(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """A WSGI application that answers challenges, and leaves all else to ``application``."""

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
        """An ASGI application that answers challenges, and leaves all else to ``application``."""

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
