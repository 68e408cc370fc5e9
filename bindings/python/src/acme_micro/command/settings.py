"""The settings that the command remembers, as JSON. They contain no key and no password."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Callable, TypeVar

from .._folder import SECRET, Folder
from .._native import KeyType
from .cas import directory_of
from .failure import Damaged

VERSION = 1
HOOK_TIMEOUT = 600
# The year 9999, in seconds.
FOREVER = 253_370_764_800


@dataclass(frozen=True)
class CaSettings:
    """A CA, and how to reach it."""

    directory: str
    ca_file: str | None = None
    allow_host: tuple[str, ...] = ()
    proxy: str | None = None
    proxy_file: str | None = None

    def __post_init__(self) -> None:
        directory_of(self.directory)


@dataclass(frozen=True)
class CertificateSettings:
    """How to obtain a certificate."""

    names: tuple[str, ...]
    webroot: str | None = None
    more_webroots: tuple[str, ...] = ()
    standalone: tuple[str, int] | None = None
    hook: str | None = None
    cleanup_hook: str | None = None
    #: Folder in which obtain was started, for relative paths in the hooks above; None: of an older version.
    hook_folder: str | None = None
    challenge_type: str | None = None
    key_type: str | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    deploy_hook: str | None = None
    #: The same for the deploy hook, which an obtain without one remembers.
    deploy_folder: str | None = None
    #: Timeout of a hook in seconds.
    hook_timeout: int = HOOK_TIMEOUT
    #: Fingerprint of the certificate for which the deploy hook has succeeded.
    deployed: str | None = None
    #: Number of the last obtain among those for this name at all CAs; 0: of an older version.
    turn: int = 0
    #: Name of the CA whose certificate is in use instead, once a run has reported it.
    passed_over: str | None = None
    #: Number of failures in a row, number of renewals in a row, and earliest time of the next attempt in
    #: seconds since 1970.
    failures: int = 0
    renewals: int = 0
    next_try: float = 0

    @property
    def webroots(self) -> tuple[str, ...]:
        """All webroots: challenges are published in each."""
        return (self.webroot, *self.more_webroots) if self.webroot else ()

    def __post_init__(self) -> None:
        if self.key_type is not None and self.key_type.upper() not in KeyType.__members__:
            raise ValueError(f"key_type {self.key_type} is unknown")
        if self.standalone is not None and not 0 < self.standalone[1] < 65536:
            raise ValueError(f"the port of standalone is {self.standalone[1]}, not 1 to 65535")
        if self.hook_timeout < 1:
            raise ValueError("hook_timeout is less than 1")
        if not all(0 <= count < 1 << 31 for count in (self.failures, self.renewals, self.turn)):
            raise ValueError("failures, renewals or turn is out of range")
        if not 0 <= self.next_try < FOREVER:
            raise ValueError("next_try is out of range")


def updated(settings: CaSettings, arguments: argparse.Namespace) -> CaSettings:
    """Returns the settings, changed by the arguments (proxy, roots, hosts); an empty one removes a setting."""
    names = "ca_file", "allow_host", "proxy", "proxy_file"
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if "allow_host" in given:
        given["allow_host"] = tuple(host for host in given["allow_host"] if host)
    if "proxy" in given or "proxy_file" in given:  # each replaces the other
        settings = replace(settings, proxy=None, proxy_file=None)
    unset = CaSettings(settings.directory)
    return replace(settings, **{name: value or getattr(unset, name) for name, value in given.items()})


Settings = TypeVar("Settings", CaSettings, CertificateSettings)


def read(folder: Folder, file: str, kind: type[Settings]) -> Settings | None:
    """Reads settings; None if the file does not exist. The file names commands to run, so it is checked as a
    key's file is."""
    folder.make_private(file)
    data = folder.read(file, secret=True)
    if data is None:
        return None
    known = {field.name: VALIDATORS[str(field.type)] for field in fields(kind)}
    try:
        found = json.loads(data)
        if found.get("version", VERSION) > VERSION:
            raise ValueError("it is of a newer version")
        values = {name: _frozen(value) for name, value in found.items() if name in known}
        if "failures" not in found:  # an older version's, which also counted successes: it may be too late
            values.pop("next_try", None)
        for name, value in values.items():
            if not known[name](value):
                raise ValueError(f"{name} cannot be {json.dumps(value)}")
        return kind(**values)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = f"{folder.path_of(file)} was not written by this version of the command: {error}"
        raise Damaged(why, "remove the file, and run acme-micro obtain again") from None


def write(folder: Folder, file: str, settings: CaSettings | CertificateSettings) -> None:
    """Writes the settings atomically."""
    text = json.dumps({"version": VERSION, **asdict(settings)}, indent=2)
    folder.write(file, f"{text}\n".encode(), SECRET)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


# Whether a value fits, by the type of its field: the file may have been edited.
VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "str": _is(str),
    "str | None": _is(str, type(None)),
    "int": _is(int),
    "float": _is(int, float),
    "tuple[str, ...]": lambda value: isinstance(value, tuple) and all(map(_is(str), value)),
    "tuple[str, int] | None": lambda value: (
        value is None
        or (isinstance(value, tuple) and len(value) == 2 and _is(str)(value[0]) and _is(int)(value[1]))
    ),
}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
