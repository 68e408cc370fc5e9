"""Which certificate is in use, if several CAs of the folder have one for the same purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Union
from weakref import WeakKeyDictionary

from .._names import canonical
from ..errors import StoreError
from .failure import CommandError, Damaged
from .layout import Ca, UnusableCa
from .output import Output
from .settings import CertificateSettings

AnyCa = Union[Ca, UnusableCa]
#: Number that is higher than that of any stored ``obtain``.
LAST = 1 << 31


def in_use_instead(
    ca: Ca, name: str, cas: Sequence[AnyCa], obtaining: CertificateSettings | None = None
) -> AnyCa | None:
    """Returns the CA whose certificate is in use instead of this CA's, or None. ``obtaining`` has the
    settings of an ``obtain`` that is in progress.

    Two CAs' certificates are for the same purpose if their files or all their names are the same. A CA for
    trials is never used beside another one. Of two other CAs, the last ``obtain`` decides; with an older
    version's settings, which do not have the order, both are in use. A folder that cannot be used may have
    the last one.
    """
    settings = obtaining or _settings(ca, name)
    own = (ca.trial_for is None, LAST if obtaining else _turn(ca, name))
    others = [((one.trial_for is None, turn), one) for one, turn in _others(ca, name, settings, cas)]
    rank, best = max(others, key=lambda other: other[0], default=(own, None))
    return best if rank > own else None


def next_turn(ca: Ca, name: str, settings: CertificateSettings, cas: Sequence[Ca]) -> int:
    """Returns the number of a new ``obtain``: higher than those of the other CAs."""
    return max([_turn(ca, name), *(turn + 1 for _, turn in _others(ca, name, settings, cas))])


def pass_over(ca: Ca, name: str, other: AnyCa, output: Output) -> None:
    """Reports, once, that a certificate is not renewed; fails if the one in use is not renewed either."""
    why = f"{name}: not renewed at {ca.name}, because the certificate of {other.name} is in use"
    if isinstance(other, Ca) and _is_lost(other, name):
        how = f"acme-micro delete {name} --directory {other.argument}"
        raise Damaged(f"{why}, and its chain file is missing", f"run acme-micro obtain again, or {how}")
    settings = ca.certificate_settings(name)
    if settings is not None and settings.passed_over != other.name:
        output.note(f"{why}; acme-micro delete {name} --directory {ca.argument} removes it")
        ca.keep_certificate_settings(name, replace(settings, passed_over=other.name))


def _others(
    ca: Ca, name: str, settings: CertificateSettings | None, cas: Sequence[AnyCa]
) -> Iterator[tuple[AnyCa, int]]:
    """Yields the other CAs' certificates for the same purpose, each with the number of its ``obtain``."""
    for one in cas:
        if one.path == ca.path:
            continue
        if isinstance(one, UnusableCa):
            if one.may_have(name):
                yield one, LAST
            continue
        if one.has(name) or _is_lost(one, name):
            yield one, _turn(one, name)
        if settings is not None:
            for alike in _by_names(one).get(_set_of(settings), ()):
                yield one, _turn(one, alike)


def _is_lost(ca: Ca, name: str) -> bool:
    """Whether a certificate without its chain file was in use.

    A first ``obtain`` that failed leaves a key and settings, too, but its deploy hook has not run.
    """
    settings = _settings(ca, name)
    return settings is not None and settings.deployed is not None and not ca.has(name)


_known_by_names: WeakKeyDictionary[Ca, dict[frozenset[str], list[str]]] = WeakKeyDictionary()


def _by_names(ca: Ca) -> dict[frozenset[str], list[str]]:
    """Returns a CA's certificates by the names that they are for, as they are at the first call."""
    found = _known_by_names.get(ca)
    if found is None:
        found = _known_by_names[ca] = {}
        for name in ca.names():
            settings = _settings(ca, name)
            if settings is not None:
                found.setdefault(_set_of(settings), []).append(name)
    return found


def _set_of(settings: CertificateSettings) -> frozenset[str]:
    return frozenset(map(canonical, settings.names))


def _turn(ca: Ca, name: str) -> int:
    settings = _settings(ca, name)
    return settings.turn if settings else 0


def _settings(ca: Ca, name: str) -> CertificateSettings | None:
    with suppress(StoreError, CommandError):  # a damaged file
        return ca.certificate_settings(name)
    return None
