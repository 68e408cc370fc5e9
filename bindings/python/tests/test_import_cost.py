"""The cost of ``import acme_micro`` and of the command's short answers, in instructions beside those of an
empty Python: a server or a cron job pays it at each start. Valgrind counts; no test looks at a clock."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_no_import_circles import imports

import acme_micro

PACKAGE = Path(acme_micro.__file__).parent
# Maximum number of instructions, in those of a Python that does nothing.
MOST = 3.5
PATH = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
# The script that pip installs for the command.
SCRIPT = f"""import re
{PATH}
from acme_micro.command import main
sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
sys.exit(main())
"""
# Modules that take long to import, or import others that do.
DEAR = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "datetime", "enum", "functools", "hashlib",
    "http", "inspect", "json", "logging", "pathlib", "re", "secrets", "shutil", "signal", "socket", "ssl",
    "subprocess", "tempfile", "threading", "traceback", "typing", "urllib",
}  # fmt: skip


def python(*arguments: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a Python that reads no variable of Python's environment, and has no module of site's."""
    return subprocess.run(
        [*under, sys.executable, "-I", "-S", *arguments], check=True, capture_output=True, text=True,
        env={**os.environ, "COLUMNS": "80"}, timeout=120,
    )  # fmt: skip


def instructions(*arguments: str) -> int:
    python(*arguments)  # writes the byte code of modules that have none
    under = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    counted = re.search(r"Collected *: *(\d+)", python(*arguments, under=under).stderr)
    assert counted
    return int(counted[1])


@pytest.fixture(scope="module")
def nothing() -> int:
    if not shutil.which("valgrind"):
        pytest.skip("NOT RUN: this needs valgrind")
    return instructions("-c", "pass")


@pytest.mark.parametrize(
    "arguments",
    [(f"{PATH}import acme_micro",), (SCRIPT, "--version"), (SCRIPT, "--help")],
    ids=["import", "version", "help"],
)
def test_the_start_is_cheap(arguments, nothing):
    times = instructions("-c", *arguments) / nothing
    assert times <= MOST, f"{times:.2f} times as many instructions as a Python that does nothing"


def imported(code: str) -> set[str]:
    """Returns the modules that some code imports besides those of Python's own start."""
    report = "print(*(set(sys.modules) - before), file=sys.stderr)"
    done = python("-c", f"{PATH}before = set(sys.modules)\n{code}\n{report}")
    return set(done.stderr.split())


RUN = "from acme_micro.command import main; main(['{}'])"


@pytest.mark.parametrize("code", ["import acme_micro", RUN.format("--version"), RUN.format("--help")])
def test_no_module_is_imported_before_it_is_needed(code):
    found = imported(code)
    assert "ctypes" in found and not found & DEAR
    assert {name for name in found if name.startswith("acme_micro.") and "command" not in name} == {
        "acme_micro._loader", "acme_micro._native",
    }  # fmt: skip


def test_a_module_is_imported_with_its_first_name():
    found = imported("import acme_micro; acme_micro.KeyType")
    assert {"acme_micro.keys", "acme_micro._types"} <= found
    assert not found & {"asyncio", "dataclasses", "acme_micro.aio", "acme_micro.client", "acme_micro.steps"}
    assert "asyncio" not in imported("import acme_micro; acme_micro.Store; acme_micro.Client")


def test_each_name_comes_from_where_type_checkers_find_it():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = {
        name: module.removeprefix("acme_micro.")
        for module, name in imports(tree, "acme_micro", True)
        if module.startswith("acme_micro.")
    }
    assert checked == acme_micro._HOMES
    assert set(acme_micro.__all__) == {*checked, "library_version", "logging"}


def test_names_and_modules_need_no_import_of_their_own():
    code = """
import acme_micro
assert set(acme_micro.__all__) <= set(dir(acme_micro))
assert acme_micro.errors.AcmeError is acme_micro.AcmeError
assert acme_micro.logging.install and acme_micro._native.LogLevel.TRACE == 5
for module in acme_micro, acme_micro._native:
    try:
        module.acme_nothing
    except AttributeError as error:
        assert str(error) == f"module {module.__name__!r} has no attribute 'acme_nothing'"
    else:
        raise AssertionError
from acme_micro import *
assert AsyncClient is acme_micro.AsyncClient and Wait(1) == acme_micro.steps.Wait(1)
"""
    python("-c", PATH + code)
