"""The time of the next attempt to obtain or renew a certificate."""

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
    """Returns when to try again to obtain or renew a certificate.

    The delay from now is a minute, ten minutes or a hundred minutes after the first, second or third
    failure in a row, and then a day. After an error that is ``permanent`` it is a day immediately. Up to
    half of the delay is added at random, so that programs that failed together do not return together.
    The result is never before the error's ``retry_at``.

    tries
        After a failure, the number of failures in a row; a success sets it to 0. After a success, the
        number of renewals in a row; finding that the renewal is not due
        (:attr:`RenewalInfo.is_due`) sets both numbers to 0. The second number keeps a CA that always
        asks for a renewal to about one certificate a day.
    error
        The exception of the last attempt; None after a success.
    certificate
        The certificate in use: after a failure the old one, after a success the new one. It limits the
        delay to what the certificate's lifetime allows:

        * Before the renewal is due by the lifetime, the next attempt is at that time at the latest.
        * From then until the certificate expires, the delay is at most half of the time that is left.
        * Neither limit is shorter than a 64th of the lifetime, which counts as at least 40 seconds and
          at most an hour, or than a quarter of the lifetime, if that is less.
        * After it has expired, the delay is at most an eighth of the lifetime or of the time since it
          expired, or a minute, whichever is longest.

        If a limit is shorter than the usual delay, the delay is chosen at random between 75 % and
        100 % of the limit. For a certificate that lives three minutes or longer, no delay is therefore
        shorter than 30 seconds.
    """
    cert = POINTER(_native.acme_cert_t)()
    if certificate is not None:
        cert = handle_of(certificate, Certificate, "certificate")
    permanent, retry_at = getattr(error, "permanent", False), getattr(error, "retry_at", None)
    at = _native.acme_next_try(max(tries, 0), bool(permanent), milliseconds(retry_at), cert, 0)
    return EPOCH + timedelta(milliseconds=at)
