"""Hints about accounts and failed challenges, by the CA's problem and by how the challenge was published."""

from __future__ import annotations

import errno
import os
import re
from ipaddress import ip_address

from ..errors import AccountError, AcmeError, ChallengeFailed
from ..solvers import FOLDERS
from .failure import ACME_ERROR, advise
from .layout import Ca
from .settings import CertificateSettings

# The options of this command for each type of challenge.
OPTIONS = {
    "http-01": "--webroot DIR or --standalone",
    "dns-01": "--hook CMD",
    "dns-account-01": "--hook CMD --challenge-type dns-account-01",
    "dns-persist-01": "--hook CMD --challenge-type dns-persist-01",
}
# The types that a CA offers are in the library's message only.
OFFER = re.compile(r"the CA offers (.+), none of which is acceptable")
RECORDS = "its A and AAAA records"
WEBROOT = "use --webroot with the root folder of the web server on port 80"
HOST = "HOST is an address or a name of this machine; leave it out of --standalone to listen on all addresses"
PORT_HINTS = {
    errno.EADDRINUSE: f"stop that program; or, if it is a web server, {WEBROOT}",
    errno.EACCES: f"run the command as root, or give it this right; or {WEBROOT}",
    errno.EADDRNOTAVAIL: HOST,
    errno.EINVAL: HOST,
}


ROLLOVER = "run acme-micro account rollover: a change of the account's key was begun and has not ended"


def advise_of_account(error: AcmeError, ca: Ca) -> None:
    """Sets the hint of an account that is not usable."""
    if isinstance(error, AccountError):
        advise(error, ROLLOVER if ca.has_next_account_key else ca.another_account)


def advise_of_challenges(error: AcmeError, settings: CertificateSettings) -> None:
    """Sets the hints of the challenges that failed."""
    for one in (error, *error.subproblems):
        if isinstance(error, ChallengeFailed):
            advise(one, _hint(one, settings))


def advise_of_publishing(error: OSError, settings: CertificateSettings) -> None:
    """Sets the hint of an error of the system."""
    if settings.standalone:
        advise(error, PORT_HINTS.get(error.errno or 0))
    elif settings.webroot and error.errno == errno.ELOOP:
        advise(error, _hint_of_link(str(error.filename)))


def _hint_of_link(folder: str) -> str:
    """Returns what to do if one of the challenges' folders is a symbolic link."""
    target, inner = os.path.realpath(folder), os.path.join("/", *FOLDERS)
    if target.endswith(inner):
        return f"give the folder that it leads to: --webroot {target[: -len(inner)] or '/'}"
    return f"use --hook CMD --challenge-type http-01 with a command that writes to {target}"


def _hint(error: AcmeError, settings: CertificateSettings) -> str | None:
    """Returns a hint, or None if publishing and reaching the challenge are not the cause."""
    offer = None if error.problem else OFFER.search(str(error))
    if offer:
        return _another_type(offer[1].split(", "))
    problem = (error.problem_type or "").removeprefix(ACME_ERROR)
    if problem not in ("connection", "dns", "incorrectResponse", "tls", "unauthorized"):
        return None
    name = (error.identifier or "the name").removeprefix("*.")
    if settings.hook and settings.challenge_type != "http-01":
        record = _record(name, settings.challenge_type)
        return (
            f"the CA does not find the hook's TXT record {record}: when the hook ends, "
            "all name servers of the zone must have it"
        )
    if problem == "dns":
        return f"the CA does not find the address of {name}: check {RECORDS}"
    if problem == "connection":
        return f"the CA cannot reach port 80 of {name}: check {_checks(name, settings, 'the firewall')}"
    if problem == "tls":
        return f"port 80 of {name} redirects the CA to a server whose TLS does not work"
    if settings.webroot:
        checks = _checks(name, settings, f"that its web server serves {' or '.join(settings.webroots)}")
        return f"port 80 of {name} does not serve the files of --webroot: check {checks}"
    if settings.standalone:
        checks = _checks(name, settings)
        return f"another server responds on port 80 of {name}" + (checks and f": check {checks}")
    return f"port 80 of {name} does not serve what the hook publishes: it must when the hook ends"


def _record(name: str, type: str | None) -> str:
    """Returns the name of the TXT record, or as much of it as the domain name determines."""
    if type == "dns-account-01":  # the first label depends on the account
        return f"below _acme-challenge.{name}"
    return f"_validation-persist.{name}" if type == "dns-persist-01" else f"_acme-challenge.{name}"


def _another_type(offered: list[str]) -> str:
    for type, option in OPTIONS.items():
        if type in offered:
            return f"the CA offers {type}: use {option}"
    return f"this command supports {', '.join(OPTIONS)}, but the CA offers others"


def _checks(name: str, settings: CertificateSettings, *more: str) -> str:
    """Returns what to check if the CA cannot reach port 80 of this name."""
    checks = [] if _is_address(name) else [RECORDS]
    if settings.standalone and settings.standalone[1] != 80:
        checks.append(f"that its port 80 leads to port {settings.standalone[1]} of this machine")
    return ", ".join([*checks, *more])


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
