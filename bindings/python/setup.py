"""Builds the shared library and puts it into the package.

OPENSSL_NO_VENDOR=1         link the system's OpenSSL; the wheel is for this system only
ACME_MICRO_NO_BUNDLE=1      leave the library out, for systems that have a package of it
ACME_MICRO_PREBUILT=FILE    take this library instead of building one

Without these variables, OpenSSL is compiled in, which takes minutes and needs Perl and make. The wheel is
then for each Linux whose C library is new enough (manylinux); auditwheel finds out which.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
# A source distribution contains the crate; see CrateInSdist.
ROOT = HERE / "crate" if (HERE / "crate").is_dir() else HERE.parents[1]
SONAME = "libacme-micro.so.1"
BUNDLE = not os.environ.get("ACME_MICRO_NO_BUNDLE")


def cargo(*arguments: str, **variables: str) -> Path:
    """Runs cargo in the crate; returns its build folder."""
    program = shutil.which("cargo")
    if program is None:
        sys.exit("acme-micro: cargo is missing: install Rust 1.85 or later, or set ACME_MICRO_PREBUILT")
    # A separate folder, because the library that `make install` installs is another one.
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "python"
    variables["CARGO_TARGET_DIR"] = str(target)
    subprocess.run([program, *arguments], cwd=ROOT, check=True, env={**os.environ, **variables})
    return target


def library() -> Path:
    """Returns the path of the shared library for the package."""
    prebuilt = os.environ.get("ACME_MICRO_PREBUILT")
    if prebuilt:
        return Path(prebuilt)
    if not (ROOT / "Cargo.toml").is_file():
        sys.exit(
            "acme-micro: the library's source is not two folders up; install from a whole source "
            "tree, or set ACME_MICRO_PREBUILT to a libacme-micro.so"
        )
    # OPENSSL_NO_VENDOR takes precedence over the feature "vendored".
    target = cargo(
        *("rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"),
        *("--features", "capi,vendored"),
        ACME_MICRO_SONAME=SONAME,
        CARGO_PROFILE_RELEASE_STRIP="symbols",
    )
    return target / "release" / "libacme_micro.so"


class BuildWithLibrary(build_py):
    def run(self) -> None:
        folder = Path(self.build_lib) / "acme_micro" / "_lib"
        shutil.rmtree(folder, ignore_errors=True)  # left by an earlier build, perhaps with other variables
        super().run()
        if BUNDLE and not self.editable_mode:
            folder.mkdir(parents=True)
            shutil.copyfile(library(), folder / SONAME)


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return BUNDLE


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3, as ctypes needs no ABI of it, for the platforms that auditwheel finds."""

    def get_tag(self) -> "tuple[str, str, str]":
        return ("py3", "none", super().get_tag()[2])

    def run(self) -> None:
        super().run()
        if BUNDLE and sys.platform == "linux" and not self.links_openssl():
            self.name_platforms()

    def links_openssl(self) -> bool:
        """Whether the library needs the system's OpenSSL: then the wheel is for such systems only."""
        from elftools.elf.elffile import ELFFile  # auditwheel depends on it

        build = self.get_finalized_command("build_py")
        with open(Path(build.build_lib, "acme_micro", "_lib", SONAME), "rb") as file:
            needed = ELFFile(file).get_section_by_name(".dynamic").iter_tags("DT_NEEDED")
            return any(tag.needed.startswith(("libssl.", "libcrypto.")) for tag in needed)

    def name_platforms(self) -> None:
        """Replaces linux_* in the wheel's name and metadata by the platforms that the library supports."""
        command, version, made = self.distribution.dist_files.pop()
        with tempfile.TemporaryDirectory(dir=self.dist_dir) as folder:
            auditwheel = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", folder]
            subprocess.run([*auditwheel, made], check=True)
            (named,) = Path(folder).iterdir()
            os.unlink(made)
            made = str(named.replace(Path(self.dist_dir, named.name)))
        self.distribution.dist_files.append((command, version, made))


class CrateInSdist(sdist):
    """Adds the published crate, in a folder crate/. A wheel can be built from that alone."""

    def make_release_tree(self, base_dir: str, files: "list[str]") -> None:
        super().make_release_tree(base_dir, files)
        target = cargo("package", "--no-verify", "--allow-dirty", "--locked", "--quiet")
        name = f"acme-micro-{self.distribution.get_version()}"
        with tarfile.open(target / "package" / f"{name}.crate") as crate:
            crate.extractall(base_dir)
        Path(base_dir, name).rename(Path(base_dir, "crate"))
        # The same settings for the compiler.
        shutil.copytree(ROOT / ".cargo", Path(base_dir, "crate", ".cargo"))


setup(
    cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel, "sdist": CrateInSdist},
    distclass=PlatformDistribution,
)
