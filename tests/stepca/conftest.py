"""One step-ca for all tests, and fixtures with which each of our programs uses it."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stepca import ROOT, StepCa

sys.path.append(str(ROOT / "bindings/python/tests"))

from command_runs import Person  # noqa: E402
from webroot_server import serving  # noqa: E402
from with_pebble import print_tail, try_to_start  # noqa: E402

import acme_micro as acme  # noqa: E402


@pytest.fixture(scope="session")
def stepca(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[StepCa]:
    folder = tmp_path_factory.mktemp("step-ca")
    with ExitStack() as stack:
        ca = try_to_start(stack, lambda attempt: StepCa(attempt, folder), [folder / "step-ca-1.log"])
        yield ca
        if request.session.testsfailed:
            print_tail(ca.log)


@pytest.fixture
def up(stepca: StepCa) -> Iterator[StepCa]:
    """A step-ca that the test may stop; it runs again for the next test."""
    yield stepca
    stepca.stop()
    stepca.start()


class People:
    """Makes test users of the command, each with a folder and a CA."""

    def __init__(self, stepca: StepCa, folder: Path):
        self._stepca, self._folder = stepca, folder

    def at(self, provisioner: str, name: str = "acme") -> Person:
        ca = self._stepca
        return Person(self._folder / f"{name}-{provisioner}", ca.directory(provisioner), ca.root)


@pytest.fixture
def people(stepca: StepCa, tmp_path: Path) -> People:
    return People(stepca, tmp_path)


@pytest.fixture
def webroot(stepca: StepCa, tmp_path: Path) -> Iterator[Path]:
    """The folder that a web server serves for every name."""
    folder = tmp_path / "webroots" / "one"
    folder.mkdir(parents=True)
    with serving(tmp_path / "webroots", stepca.ports["http"]):
        yield folder


@pytest.fixture
def client(stepca: StepCa) -> Iterator[acme.Client]:
    key = acme.PrivateKey.generate()
    with acme.Client(stepca.directory("day"), key, ca_file=stepca.root) as client:
        yield client


@pytest.fixture
def dns(stepca: StepCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the test set TXT records: outside.PebbleDns finds the DNS server."""
    monkeypatch.setenv("PEBBLE_CHALLTESTSRV", stepca.challtestsrv)


def fetch(url: str, stepca: StepCa) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=stepca.tls) as response:
        return response.read()


def published(webroot: Path) -> list[Path]:
    """The published challenges."""
    return [path for path in webroot.rglob("*") if path.is_file()]
