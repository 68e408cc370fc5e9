"""What the command remembers, as JSON. No key and no password is in it."""

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
    """Which CA it is, and how it is reached."""

    directory: str
    ca_file: str | None = None
    allow_host: tuple[str, ...] = ()
    proxy: str | None = None
    proxy_file: str | None = None

    def __post_init__(self) -> None:
        directory_of(self.directory)


@dataclass(frozen=True)
class CertificateSettings:
    """How a certificate is obtained."""

    names: tuple[str, ...]
    webroot: str | None = None
    standalone: tuple[str, int] | None = None
    hook: str | None = None
    cleanup_hook: str | None = None
    challenge_type: str | None = None
    key_type: str | None = None
    profile: str | None = None
    preferred_chain: str | None = None
    deploy_hook: str | None = None
    #: How long a hook may take, in seconds.
    hook_timeout: int = HOOK_TIMEOUT
    #: Fingerprint of the certificate that the deploy hook has seen.
    deployed: str | None = None
    #: How many tries have failed in a row, how many renewals in a row there have been, and when the next
    #: try may be; seconds since 1970.
    failures: int = 0
    renewals: int = 0
    next_try: float = 0

    def __post_init__(self) -> None:
        if self.key_type is not None and self.key_type.upper() not in KeyType.__members__:
            raise ValueError(f"there is no key_type {self.key_type}")
        if self.standalone is not None and not 0 < self.standalone[1] < 65536:
            raise ValueError(f"standalone has no port {self.standalone[1]}")
        if self.hook_timeout < 1:
            raise ValueError("hook_timeout is no such number")
        if not (0 <= self.failures < 1 << 31 and 0 <= self.renewals < 1 << 31):
            raise ValueError("failures or renewals is no such number")
        if not 0 <= self.next_try < FOREVER:
            raise ValueError("next_try is no such number")


def updated(settings: CaSettings, arguments: argparse.Namespace) -> CaSettings:
    """With what the arguments say of the way to the CA; what is empty there forgets."""
    names = "ca_file", "allow_host", "proxy", "proxy_file"
    said = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if "allow_host" in said:
        said["allow_host"] = tuple(host for host in said["allow_host"] if host)
    if "proxy" in said or "proxy_file" in said:  # one takes the other's place
        settings = replace(settings, proxy=None, proxy_file=None)
    unset = CaSettings(settings.directory)
    return replace(settings, **{name: value or getattr(unset, name) for name, value in said.items()})


Settings = TypeVar("Settings", CaSettings, CertificateSettings)


def read(folder: Folder, file: str, kind: type[Settings]) -> Settings | None:
    """None: there is no such file. What names commands to run is trusted as a key is."""
    data = folder.read(file, secret=True)
    if data is None:
        return None
    known = {field.name: VALIDATORS[str(field.type)] for field in fields(kind)}
    try:
        found = json.loads(data)
        if found.get("version", VERSION) > VERSION:
            raise ValueError("a newer version has")
        values = {name: _frozen(value) for name, value in found.items() if name in known}
        if "failures" not in found:  # it counted successes, too: what it says may be too late
            values.pop("next_try", None)
        for name, value in values.items():
            if not known[name](value):
                raise ValueError(f"{name} cannot be {json.dumps(value)}")
        return kind(**values)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = f"{folder.path_of(file)} is not what this command has written: {error}"
        raise Damaged(why, "remove the file, and obtain once more") from None


def write(folder: Folder, file: str, settings: CaSettings | CertificateSettings) -> None:
    """All of it, or what was there before."""
    text = json.dumps({"version": VERSION, **asdict(settings)}, indent=2)
    folder.write(file, f"{text}\n".encode(), SECRET)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


# What a value has to be, by the type of its field: anybody may have edited the file.
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
