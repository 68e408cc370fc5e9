"""No circle of files in the package: a file imports only files below it.

Imports for type checkers only and imports inside functions count like the others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import acme_micro

Arrows = dict[str, set[str]]


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, str]]:
    """Yields each import of a file as (module, name); the name may be empty."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield base, alias.name


def arrows_of(folder: Path, package: str) -> Arrows:
    """Returns, for each module of the package, the modules of the package that it imports."""
    files = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [package, *path.relative_to(folder).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        files[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    arrows: Arrows = {module: set() for module in files}
    for module, (path, is_package) in files.items():
        for base, name in imports(ast.parse(path.read_text()), module, is_package):
            inner = f"{base}.{name}"
            if inner in files or base in files:
                arrows[module].add(inner if inner in files else base)
    return arrows


def circle(arrows: Arrows) -> list[str] | None:
    """Returns the modules of one circle in their order, or None."""
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return trail[trail.index(module) :]
        if module in finished:
            return None
        for imported in sorted(arrows[module]):
            found = visit(imported, [*trail, module])
            if found is not None:
                return found
        finished.add(module)
        return None

    for module in arrows:
        found = visit(module, [])
        if found is not None:
            return found
    return None


def test_no_circle_of_files():
    arrows = arrows_of(Path(acme_micro.__file__).parent, "acme_micro")
    assert circle(arrows) is None
    # A smaller number would mean that imports are overlooked.
    assert len(arrows) >= 40 and sum(map(len, arrows.values())) >= 180
    assert "acme_micro._folder" in arrows["acme_micro.command.layout"]
    assert "acme_micro.aio" in arrows["acme_micro"], "an import inside a function"
    assert "acme_micro._revocation" in arrows["acme_micro._client"], "an import for type checkers"


def test_a_circle_is_found(tmp_path):
    """The circle contains a lazy import, one for type checkers, and a package's own file."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text("def f():\n    from .inner import b\n")
    (inner / "__init__.py").write_text("from ..c import x\n")
    (inner / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import c\n"
    )
    (tmp_path / "c.py").write_text("import made_up.d\nx = 1\n")
    (tmp_path / "d.py").write_text("")
    arrows = arrows_of(tmp_path, "made_up")
    assert circle(arrows) is None
    assert arrows == {
        "made_up": set(), "made_up.a": {"made_up.inner.b"}, "made_up.c": {"made_up.d"},
        "made_up.d": set(), "made_up.inner": {"made_up.c"}, "made_up.inner.b": {"made_up.c"},
    }  # fmt: skip
    (tmp_path / "d.py").write_text("from made_up import a\n")
    found = circle(arrows_of(tmp_path, "made_up"))
    assert found == ["made_up.a", "made_up.inner.b", "made_up.c", "made_up.d"]
