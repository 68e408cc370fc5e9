"""Which certificate of a name is in use, if several CAs of the folder have one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from .._folder import StoreError
from .failure import CommandError
from .layout import Ca
from .output import Output


def in_use_instead(ca: Ca, name: str, cas: Sequence[Ca], turn: int | None = None) -> Ca | None:
    """Returns the CA whose certificate of this name is in use instead of this CA's, or None. ``turn`` is the
    number of an ``obtain`` that is in progress.

    A CA for trials is never used beside another one. Of two other CAs, the last ``obtain`` decides; with an
    older version's settings, which do not have the order, both are in use.
    """

    def rank(one: Ca) -> tuple[bool, int]:
        return one.trial_for is None, _turn(one, name)

    own = (ca.trial_for is None, _turn(ca, name) if turn is None else turn)
    best = max(_others(ca, name, cas), key=rank, default=None)
    return best if best is not None and rank(best) > own else None


def next_turn(ca: Ca, name: str, cas: Sequence[Ca]) -> int:
    """Returns the number of a new ``obtain``: higher than those of the other CAs."""
    return max([_turn(ca, name), *(_turn(one, name) + 1 for one in _others(ca, name, cas))])


def pass_over(ca: Ca, name: str, other: Ca, output: Output) -> None:
    """Reports, once, that a certificate is not renewed."""
    settings = ca.certificate_settings(name)
    if settings is not None and settings.passed_over != other.name:
        why = f"{name}: not renewed at {ca.name}, because the certificate of {other.name} is in use"
        output.note(f"{why}; acme-micro delete {name} --directory {ca.argument} removes it")
        ca.keep_certificate_settings(name, replace(settings, passed_over=other.name))


def _others(ca: Ca, name: str, cas: Sequence[Ca]) -> list[Ca]:
    """Returns the other CAs that have a certificate of this name."""
    return [one for one in cas if one.path != ca.path and one.stored_name(name) in one.names()]


def _turn(ca: Ca, name: str) -> int:
    with suppress(StoreError, CommandError):  # a damaged file
        settings = ca.certificate_settings(name)
        return settings.turn if settings else 0
    return 0
