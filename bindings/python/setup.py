"""Builds the shared library and puts it into the package.

ACME_MICRO_PREBUILT=FILE    take this library instead of building one
ACME_MICRO_NO_BUNDLE=1      leave it out, for systems that have the library in a package of its own
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SONAME = "libacme-micro.so.1"
BUNDLE = not os.environ.get("ACME_MICRO_NO_BUNDLE")


def library() -> Path:
    """The shared library to bundle."""
    prebuilt = os.environ.get("ACME_MICRO_PREBUILT")
    if prebuilt:
        return Path(prebuilt)
    if not (ROOT / "Cargo.toml").is_file():
        sys.exit(
            "acme-micro: the library's source is not two folders up; install from a whole source "
            "tree, or set ACME_MICRO_PREBUILT to a libacme-micro.so"
        )
    cargo = shutil.which("cargo")
    if cargo is None:
        sys.exit("acme-micro: cargo is missing: install Rust 1.85 or later, or set ACME_MICRO_PREBUILT")
    command = [cargo, "rustc", "--release", "--lib", "--features", "capi"]
    subprocess.run(
        [*command, "--crate-type", "cdylib"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "ACME_MICRO_SONAME": SONAME},
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "libacme_micro.so"


class BuildWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        if BUNDLE and not self.editable_mode:
            folder = Path(self.build_lib) / "acme_micro" / "_lib"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library(), folder / SONAME)


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return BUNDLE


class PlatformWheel(bdist_wheel):
    """For any Python 3, but for this platform only: ctypes needs no ABI of Python's."""

    def get_tag(self) -> "tuple[str, str, str]":
        return ("py3", "none", super().get_tag()[2])


setup(
    cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel},
    distclass=PlatformDistribution,
)
