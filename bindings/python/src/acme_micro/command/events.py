"""Events of the daemon: a line for people, an object for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..manager import EventType, ManagerEvent
from .failure import document, hint_for, message_of
from .layout import Ca
from .text import day_and_time, not_before, plain, until

WORDS = {
    EventType.LOADED: "in use",
    EventType.OBTAINED: "new certificate",
    EventType.RENEWED: "renewed",
    EventType.NOT_DUE: "renewal not due yet",
    EventType.FAILED: "failed",
    EventType.STOPPED: "given up",
    EventType.OTHER_CA: "going on with another CA",
    EventType.EXPIRING: "expires soon",
    EventType.EXPIRED: "has expired",
    EventType.CA_PAUSED: "the CA does not work, or limits all certificates",
    EventType.CA_RESUMED: "the CA works again",
}
# The events after which a time of the next attempt follows.
BEFORE_AN_ATTEMPT = (EventType.FAILED, EventType.EXPIRING, EventType.EXPIRED, EventType.CA_PAUSED)


def line_of(event: ManagerEvent, name: str) -> str:
    """Returns one line about an event; ``name`` is that of the CA for an event without a certificate."""
    parts = [f"{plain(name)}: {WORDS[event.type]}"]
    if event.error is not None:
        message = message_of(event.error)
        parts[0] += f": {message}" if event.certificate is None else ", but not stored: " + message
        parts += filter(None, [hint_for(event.error)])
    if event.certificate is not None:
        parts[0] += f", valid until {until(event.certificate.not_after)}"
    if event.next_try is not None and event.type in (EventType.NOT_DUE, *BEFORE_AN_ATTEMPT):
        what = "the CA is asked again" if event.type == EventType.NOT_DUE else "next attempt"
        parts.append(f"{what} at {day_and_time(not_before(event.next_try))}")
    if event.type == EventType.STOPPED:
        parts.append("correct the cause, and send SIGHUP to the daemon")
    return "; ".join(parts)


def object_of(event: ManagerEvent, ca: Ca, name: str) -> dict[str, Any]:
    """Describes an event for programs."""
    return {
        "ok": event.error is None,
        "event": event.type.name.lower().replace("_", "-"),
        "name": name or None,
        "ca": ca.name,
        "not_after": event.certificate.not_after if event.certificate else event.not_after,
        "next_try": event.next_try,
        "error": document(event.error) if event.error is not None else None,
    }


def deploy_failed(ca: Ca, name: str, error: Exception, at: datetime) -> tuple[str, dict[str, Any]]:
    """Returns line and object about a deploy hook that failed and runs again at this time."""
    again = f"it runs again at {day_and_time(not_before(at))}"
    line = "; ".join(filter(None, [message_of(error), hint_for(error), again]))
    line = line if line.startswith(f"{name}: ") else f"{plain(name)}: {line}"
    found = {"ok": False, "event": "deploy-failed", "name": name, "ca": ca.name, "next_try": at}
    return line, {**found, "error": document(error)}


def deployed(ca: Ca, name: str) -> tuple[str, dict[str, Any]]:
    """Returns line and object about a deploy hook that has succeeded after failures."""
    line = f"{plain(name)}: deployed after failures"
    return line, {"ok": True, "event": "deployed", "name": name, "ca": ca.name}
