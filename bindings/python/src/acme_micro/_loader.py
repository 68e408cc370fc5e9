"""Finds and loads libacme-micro.

Tried in this order, the first that loads is taken:

1. the file that ``$ACME_MICRO_LIBRARY`` names, and then no other;
2. the library that the wheel brought, in ``_lib/`` beside this file;
3. the system's, by its SONAME, as the dynamic linker finds it.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

SONAME = "libacme-micro.so.1"
VARIABLE = "ACME_MICRO_LIBRARY"
BUNDLED = Path(__file__).resolve().parent / "_lib" / SONAME


def load(minimum: int) -> ctypes.CDLL:
    """The library, of version number ``minimum`` or later. ImportError says what was tried."""
    failures = []
    for name, origin in _candidates():
        try:
            library = ctypes.CDLL(name)
            version = library.acme_version_number
        except (OSError, AttributeError) as error:
            failures.append(f"{origin}: {error}")
            continue
        version.restype = ctypes.c_uint32
        _check_version(version(), minimum, name)
        return library
    raise ImportError(
        f"acme_micro needs the shared library {SONAME}, which could not be loaded. Tried:\n"
        + "\n".join(f"  - {failure}" for failure in failures)
        + f"\nInstall libacme-micro, or set ${VARIABLE} to the path of the library."
    )


def _candidates() -> list[tuple[str, str]]:
    """What to load, and where we have it from."""
    named = os.environ.get(VARIABLE)
    if named:
        return [(named, f"${VARIABLE}")]
    system = (SONAME, "the system's")
    if BUNDLED.exists():
        return [(os.fspath(BUNDLED), "the package's own"), system]
    return [system]


def _check_version(found: int, minimum: int, where: str) -> None:
    if found >= minimum:
        return
    has, needs = _version_text(found), _version_text(minimum)
    raise ImportError(f"acme_micro {needs} needs libacme-micro >= {needs}, found {has} at {where}")


def _version_text(number: int) -> str:
    return f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
