"""Each function and each member of a struct in acme_micro.h is used by the package, outside the generated
files, or is excused here: the twin of tests/cpp/check_wrapper.py."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import acme_micro

HEADER = Path(__file__).resolve().parents[3] / "include" / "acme_micro.h"
PACKAGE = Path(acme_micro.__file__).parent
GENERATED = ("_native.py", "_types.py")

# Functions, structs and members that the package does not use, with the reason.
EXCUSED = {
    "acme_obtain": "Client.obtain() is begin_order() and Operation.run()",
    "acme_op_run": "Operation.run() is a loop in Python, so that exceptions of a solver pass unchanged",
    "acme_run_options_t": "acme_op_run() is not used",
    "acme_http_request_t.host": "a part of Request.url",
    "acme_http_request_t.path": "a part of Request.url",
    "acme_http_request_t.port": "a part of Request.url",
    "acme_op_set_user_data": "an Operation takes attributes, and callbacks are closures",
    "acme_op_user_data": "see acme_op_set_user_data",
    "acme_driver_count": "AsyncClient keeps the set of its operations",
    "acme_error_problem_type": "AcmeError.problem_type is read from AcmeError.problem",
    "acme_strerror": "each AcmeError has its own message, and each Status its name",
    "acme_store_functions_t.free": "the methods of a store belong to an object, which its clients keep alive",
    "acme_features": "a library without the HTTP client raises Unsupported, which names the feature",
}

Uses = dict[str, set[str]]


def declared(header: str) -> tuple[set[str], Uses]:
    """The functions of the header, and the members of each struct."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    functions = set(re.findall(r"\b(acme_\w+)\s*\(", code))
    structs = re.findall(r"typedef struct \{(.*?)\} (\w+);", code, re.DOTALL)
    return functions, {name: set(re.findall(r"(\w+);", body)) for body, name in structs}


def names(node: ast.AST) -> set[str]:
    """Returns the names in some code and in its imports, but not in its comments and texts."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.name for one in ast.walk(node) if isinstance(one, ast.alias)}


def attributes(node: ast.AST) -> set[str]:
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def missing(header: str, sources: list[str]) -> set[str]:
    """Returns the functions, and members as STRUCT.MEMBER, that the sources do not use.

    A member counts as used if a function names it and its struct. If no function names the struct, any
    function that names the member counts.
    """
    functions, structs = declared(header)
    trees = [ast.parse(source) for source in sources]
    lacking = functions - set().union(*(names(tree) | attributes(tree) for tree in trees))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [attributes(node) for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]
    for struct, members in structs.items():
        used = set().union(*([body for body in bodies if struct in body] or bodies))
        if struct not in EXCUSED:
            lacking |= {f"{struct}.{member}" for member in members - used}
    return lacking


def sources() -> list[str]:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name not in GENERATED]
    return [path.read_text() for path in paths]


@pytest.fixture
def header() -> str:
    if not HEADER.exists():
        pytest.skip("NOT RUN: this needs the source tree")
    return HEADER.read_text()


def test_all_of_the_header_is_reachable(header):
    functions, structs = declared(header)
    members = sum(map(len, structs.values()))
    assert len(functions) > 90 and len(structs) >= 10 and members > 80
    # Manager uses the manager in its own way: not every function and member of it.
    lacking = {one for one in missing(header, sources()) if not one.startswith("acme_manager")}
    assert lacking - set(EXCUSED) == set()
    # Remove the excuse for a name that is used or does not exist.
    assert set(EXCUSED) - {"acme_run_options_t"} <= lacking and "acme_run_options_t" in structs


@pytest.mark.parametrize(
    ("use", "lacks"),
    [
        ("options.max_threads", "acme_driver_options_t.max_threads"),
        ("options.subdomains", "acme_authorize_options_t.subdomains"),
        # acme_authorize_options_t has a member of the same name, which the package still uses.
        ("options.timeout_s", "acme_order_options_t.timeout_s"),
        ("struct.tls_alpn_name", "acme_challenge_t.tls_alpn_name"),
        ("_native.acme_cert_ari_id", "acme_cert_ari_id"),
    ],
)
def test_a_use_that_is_taken_out_is_missed(header, use, lacks):
    spoiled = ["taken_out".join(source.rsplit(use, 1)) for source in sources()]
    assert spoiled != sources()
    assert missing(header, spoiled) - missing(header, sources()) == {lacks}
