"""Errors: the exit status, a word for programs, and a hint."""

from __future__ import annotations

import os
import signal
from typing import Any

from .. import errors
from ..errors import AcmeError, StoreError
from .text import day_and_time, not_before, plain

# Prefix of the types of a CA's problems (RFC 8555 section 6.7).
ACME_ERROR = "urn:ietf:params:acme:error:"


# A CA that lost its accounts may respond with a fault or without a problem document.
LOST_ACCOUNT = "if it stays, the CA may have lost the account: run acme-micro account show"
# Maximum number of hints for one error.
MAX_HINTS = 3
# Variables that name a proxy for other programs.
PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


class CommandError(Exception):
    """An error of the command, not of the library."""

    kind, status = "error", 1

    def __init__(self, message: str, hint: str | None = None):
        super().__init__(message)
        self.hint = hint


class UsageError(CommandError):
    """The command line is wrong."""

    kind, status = "usage", 2


class Damaged(CommandError):
    """A file of the folder was not written by this command."""

    kind, status = "store", 7


class HookFailed(CommandError):
    """A hook ended with a status other than 0."""

    kind, status = "publish", 8


class DeployFailed(CommandError):
    """The certificate is stored, but the deploy hook failed."""

    kind, status = "deploy", 10


class OutputFailed(CommandError):
    """The result cannot be written."""

    kind, status = "output", 11


class Interrupted(KeyboardInterrupt):
    """A signal ended the command."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number


# The word and exit status of each error; the first match counts. 1 is a bug; 128 + N is signal N.
KINDS: tuple[tuple[type[BaseException], str, int], ...] = (
    (errors.InvalidArgument, "usage", 2),
    (errors.TransportError, "network", 3),
    (errors.OperationTimeout, "timeout", 3),
    (errors.ServerError, "server", 3),
    (errors.RateLimited, "rate-limited", 6),
    (errors.TermsNotAgreed, "terms", 9),
    (errors.ExternalAccountRequired, "external-account", 9),
    (errors.AccountError, "account", 9),
    (errors.ChallengeFailed, "challenge", 5),
    (errors.OrderRejected, "order", 4),
    (errors.ProblemError, "refused", 4),
    (errors.CertificateError, "certificate", 4),
    (errors.ProtocolError, "protocol", 4),
    (errors.PolicyError, "policy", 4),
    (errors.Unsupported, "unsupported", 4),
    (errors.PublishFailed, "publish", 8),
    (errors.CryptoError, "crypto", 7),
    (StoreError, "store", 7),
    (OSError, "publish", 8),
)


def kind_of(error: BaseException) -> tuple[str, int]:
    """Returns a word for the error, and the exit status."""
    if isinstance(error, CommandError):
        return error.kind, error.status
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 128 + getattr(error, "number", signal.SIGINT)
    for kind, word, status in KINDS:
        if isinstance(error, kind):
            return word, status
    return "bug", 1


def document(error: BaseException) -> dict[str, Any]:
    """Describes an error for programs."""
    kind, status = kind_of(error)
    found: dict[str, Any] = {"kind": kind, "message": message_of(error), "exit_status": status}
    if isinstance(error, AcmeError):
        found.update(
            identifier=error.identifier,
            url=error.url,
            permanent=error.permanent,
            retry_at=error.retry_at,
            problem=error.problem,
            help_url=error.help_url,
            subproblems=[document(one) for one in error.subproblems],
        )
    hint = hint_for(error)
    return {**found, "hint": hint} if hint else found


def message_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if kind_of(error) == ("bug", 1):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and not isinstance(error, AcmeError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return plain(f"{where}{error.strerror}")
    return plain(str(error))


def advise(error: Exception, hint: str | None) -> None:
    """Sets the hint of this error, where the command knows more than the error says."""
    setattr(error, "hint", hint)


def hint_for(error: BaseException) -> str | None:
    """Returns what a user can do about the error, or None."""
    if isinstance(error, CommandError):
        return error.hint
    hint: str | None = getattr(error, "hint", None)
    if hint or not isinstance(error, AcmeError):
        return hint
    # If several names failed, each hint appears once.
    hints = list(dict.fromkeys(filter(None, map(hint_for, error.subproblems))))
    if hints:
        return "; ".join(hints[:MAX_HINTS]) + ("; and so on" if len(hints) > MAX_HINTS else "")
    page = plain(error.help_url or "")
    if page in message_of(error):
        page = ""  # the message has it already
    if isinstance(error, errors.TransportError) and "proxy" not in message_of(error):
        return next((f"${name} is not used: add --proxy URL" for name in PROXIES if os.environ.get(name)), None)
    if isinstance(error, errors.TermsNotAgreed):
        where = page and f" at {page}"
        return f"read the CA's terms of service{where}; then add --agree-terms to obtain or account create"
    if isinstance(error, errors.ExternalAccountRequired):
        return "this CA requires --eab-kid and --eab-key-file; its website shows you both"
    if isinstance(error, errors.AccountError):
        return (
            "run acme-micro account show for what is known about the account, "
            "or acme-micro account create --agree-terms to register another one in its place"
        )
    if error.retry_at is not None:
        at = day_and_time(not_before(error.retry_at))
        return f"try again after {at}{page and '; see '}{page}"
    if isinstance(error, errors.ServerError) or error.problem_type == f"{ACME_ERROR}serverInternal":
        return f"the CA had a fault: try again later; {LOST_ACCOUNT}"
    if error.problem_type == f"{ACME_ERROR}caa":
        whose = error.identifier or "the domain"
        return f"the CAA record for {whose} does not allow this CA: change the record, or use another CA"
    if type(error) is errors.ProblemError and error.problem_type is None:
        return LOST_ACCOUNT
    return f"see {page}" if page else None
