"""Finds and loads libacme-micro.

The loader tries these, and takes the first that loads:

1. the file in ``$ACME_MICRO_LIBRARY``; if the variable is set, nothing else is tried;
2. the library in the wheel, in ``_lib/`` beside this file, also if the package is in a zip file;
3. the system's library, by its SONAME, as the dynamic linker finds it.
"""

from __future__ import annotations

import ctypes
import os

SONAME = "libacme-micro.so.1"
VARIABLE = "ACME_MICRO_LIBRARY"
BUNDLED = os.path.join(os.path.dirname(os.path.realpath(__file__)), "_lib", SONAME)


def load(minimum: int) -> ctypes.CDLL:
    """Loads the library, of version ``minimum`` or later. Raises ImportError, which lists what was tried."""
    failures = []
    for name, origin in _candidates():
        try:
            library = _from_archive() if name == BUNDLED and not os.path.exists(name) else ctypes.CDLL(name)
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
        + f"\nInstall a wheel with the library, or libacme-micro, or set ${VARIABLE} to the library's path."
    )


def _candidates() -> list[tuple[str, str]]:
    """Returns the libraries to try, each with its origin."""
    named = os.environ.get(VARIABLE)
    if named:
        return [(named, f"${VARIABLE}")]
    return [(BUNDLED, "the package's own"), (SONAME, "the system's")]


def _from_archive() -> ctypes.CDLL:
    """Loads the library of a package that is in a zip file (zipapp), from memory."""
    try:
        path = os.path.join(os.path.dirname(__file__), "_lib", SONAME)
        data = __loader__.get_data(path)  # type: ignore[name-defined]
    except OSError:
        raise OSError(f"{BUNDLED}: there is no such file") from None
    file = os.memfd_create(SONAME)
    try:
        with open(file, "wb", closefd=False) as written:
            written.write(data)
        return ctypes.CDLL(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _check_version(found: int, minimum: int, where: str) -> None:
    if found >= minimum:
        return
    has, needs = _version_text(found), _version_text(minimum)
    raise ImportError(f"acme_micro {needs} needs libacme-micro {needs} or later; {where} is version {has}")


def _version_text(number: int) -> str:
    return f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
