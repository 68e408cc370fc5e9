"""What the command remembers, as JSON. No key and no password is in it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from .._folder import SECRET, Folder
from .failure import UsageError

VERSION = 1


@dataclass(frozen=True)
class CaSettings:
    """Which CA it is, and how it is reached."""

    directory: str
    ca_file: str | None = None
    allow_host: tuple[str, ...] = ()
    proxy: str | None = None
    proxy_file: str | None = None


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
    #: Fingerprint of the certificate that the deploy hook has seen.
    deployed: str | None = None
    #: How many renewals in a row have been tried, and when the next one may be; seconds since 1970.
    tries: int = 0
    next_try: float = 0


def updated(settings: CaSettings, arguments: argparse.Namespace) -> CaSettings:
    """With what the arguments say of the way to the CA."""
    said = {name: getattr(arguments, name) for name in ("ca_file", "proxy", "proxy_file")}
    said["allow_host"] = tuple(arguments.allow_host or ())
    if said["proxy"] or said["proxy_file"]:  # one takes the other's place
        settings = replace(settings, proxy=None, proxy_file=None)
    return replace(settings, **{name: value for name, value in said.items() if value})


Settings = TypeVar("Settings", CaSettings, CertificateSettings)


def read(folder: Folder, file: str, kind: type[Settings]) -> Settings | None:
    """None: there is no such file. What names commands to run is trusted as a key is."""
    data = folder.read(file, secret=True)
    if data is None:
        return None
    known = {field.name for field in fields(kind)}
    try:
        found = json.loads(data)
        if found.get("version", VERSION) > VERSION:
            raise ValueError("a newer version has")
        values = {name: _frozen(value) for name, value in found.items() if name in known}
        return kind(**values)
    except (ValueError, TypeError, AttributeError) as error:
        why = f"{folder.path_of(file)} is not what this command has written: {error}"
        raise UsageError(why, "remove the file, and say once more how it is obtained") from None


def write(folder: Folder, file: str, settings: CaSettings | CertificateSettings) -> None:
    """All of it, or what was there before."""
    text = json.dumps({"version": VERSION, **asdict(settings)}, indent=2)
    folder.write(file, f"{text}\n".encode(), SECRET)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
