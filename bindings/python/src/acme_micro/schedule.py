"""When to try again."""

from __future__ import annotations

from ctypes import POINTER
from datetime import datetime, timedelta

from . import _native
from ._handle import handle_of
from ._values import EPOCH, milliseconds
from .certificates import Certificate

__all__ = ["next_try"]


def next_try(
    tries: int, error: BaseException | None = None, certificate: Certificate | None = None
) -> datetime:
    """When to try again, to keep a certificate fresh.

    A minute, ten, a hundred minutes from now, then a day; a day at once after an error that is
    ``permanent``; never before its ``retry_at``. Half as much again is added at random, at most.

    tries
        After a failure, how many there have been in a row: a success sets them to 0. After a success,
        how many renewals in a row: a look that shows that it is not time to renew
        (:attr:`RenewalInfo.is_due`) sets them to 0, and the failures, too. A CA that says "now" for
        ever is then asked for about one certificate a day.
    error
        What the last try raised; None: it succeeded.
    certificate
        The one that is in use: after a failure the one to be replaced, after a success the new one. It
        makes the delay shorter where that would be too long for it. Before its renewal is due by its
        lifetime the next try is not after that; from then on the delay is at most half of the time until
        it expires; neither makes it shorter than a 64th of the lifetime, which counts as at least 40
        seconds and at most an hour, nor than a quarter of the lifetime, if that is less. Once it has expired the delay is at most an eighth of the lifetime,
        or a minute if that is longer. Where that is shorter, the delay is a time in the last quarter of
        what is allowed; so none is shorter than 30 seconds, for a certificate of three minutes or
        longer.
    """
    cert = POINTER(_native.acme_cert_t)()
    if certificate is not None:
        cert = handle_of(certificate, Certificate, "certificate")
    permanent, retry_at = getattr(error, "permanent", False), getattr(error, "retry_at", None)
    at = _native.acme_next_try(max(tries, 0), bool(permanent), milliseconds(retry_at), cert, 0)
    return EPOCH + timedelta(milliseconds=at)
