"""A Boulder for the tests: with_boulder.py starts it and sets environment variables with its addresses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1] / "bindings" / "python" / "tests"))  # command_runs


def env(name: str) -> str:
    if name not in os.environ:
        pytest.fail(f"{name} is not set: run these tests with `make test-boulder`")
    return os.environ[name]


def openssl(*arguments: str, input: str = "") -> str:
    done = subprocess.run(
        ["openssl", *arguments], input=input, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def person(tmp_path: Path):
    """A person who uses the command, with a folder and an account of their own."""
    from people import Person

    return Person(tmp_path / "acme")


@pytest.fixture
def web(tmp_path: Path) -> Iterator:
    """The web server for all names."""
    from web_server import WebServer

    root = tmp_path / "webroot"
    root.mkdir()
    with WebServer(root) as server:
        yield server
