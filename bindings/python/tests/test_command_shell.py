"""The command's completions and its manual fit its parser."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from acme_micro.command import usage

HERE = Path(__file__).resolve().parents[1]
COMPLETIONS, MANUAL = HERE / "completions", HERE / "acme-micro.1"
sys.path.insert(0, str(COMPLETIONS))
import generate  # noqa: E402


@pytest.mark.parametrize("file", generate.FILES)
def test_the_completions_fit_the_parser(file):
    written = (COMPLETIONS / file).read_text()
    assert written == generate.FILES[file](generate.commands()), "run completions/generate.py"


def shell(command: list[str], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH that contains the command."""
    program = tmp_path / "bin" / "acme-micro"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m acme_micro "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


EXPECTED = [
    ("", ["obtain", "renew", "daemon", "move", "revoke", "delete", "show", "account"]),
    ("re", ["renew", "revoke"]),
    ("account ", ["show", "create", "contacts", "rollover", "deactivate"]),
    ("account create --eab-", ["--eab-kid", "--eab-key-file", "--eab-algorithm"]),
    ("account create --key-type rsa", ["rsa2048", "rsa3072", "rsa4096"]),
    ("obtain --directory go", ["google", "google-staging"]),
    ("obtain -d x.test --web", ["--webroot"]),
    ("obtain -d x.test --standalone --fo", ["--force", "--folder"]),
    ("obtain --webroot ~+/a", ["~+/acme", "~+/album"]),
    ("revoke --reason s", ["superseded"]),
    ("revoke --cert ~+/f", ["~+/file.pem"]),
]


@pytest.mark.parametrize(("typed", "wanted"), EXPECTED)
def test_bash_completes(typed, wanted, path, tmp_path):
    for folder in ("acme", "album"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file.pem").touch()
    typed, wanted = typed.replace("~+", str(tmp_path)), [w.replace("~+", str(tmp_path)) for w in wanted]
    # Completes like bash after a TAB, but without compopt, which works only in a real completion.
    script = """
        source "$1"; shift
        compopt() { :; }
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        complete -p acme-micro >/dev/null && _acme_micro
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = ["acme-micro", *typed.split(" ")]
    file = str(COMPLETIONS / "acme-micro.bash")
    found = shell(["bash", "-euc", script, "bash", file, *words], env={**os.environ, "PATH": path})
    assert [word for word in found.split("\n") if word and (word[0] != "-" or "-" in typed)] == wanted


BASH_RC = "PS1='$ '\nbind 'set enable-bracketed-paste off'\nsource {}/acme-micro.bash\n"
ZSH_RC = "PS1='$ '\nfpath=({} $fpath)\nautoload -Uz compinit && compinit -D -u\n"


SHELLS = pytest.mark.parametrize(
    ("command", "file", "text"),
    [
        (["bash", "--noprofile", "--rcfile", "rc", "-i"], "rc", BASH_RC),
        (["zsh", "-d", "-i"], ".zshrc", ZSH_RC),
    ],
    ids=["bash", "zsh"],
)


def typed(keys: str, command: list[str], path: str, folder: Path) -> str:
    """Returns the output of an interactive shell on a terminal for typed keys, such as TAB."""
    environment = {
        **os.environ, "PATH": path, "TERM": "dumb", "INPUTRC": "/dev/null", "ZDOTDIR": str(folder)
    }  # fmt: skip
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    os.write(terminal, f"{keys}\nexit\n".encode())
    said = b""
    with suppress(OSError):  # the shell has ended
        while more := os.read(terminal, 4096):
            said += more
    os.waitpid(pid, 0)
    os.close(terminal)
    return said.decode()


@SHELLS
def test_a_real_tab_completes(command, file, text, path, tmp_path):
    (tmp_path / file).write_text(text.format(COMPLETIONS))
    said = typed("acme-micro acc\tcre\t--he\t", command, path, tmp_path)
    assert "usage: acme-micro account create" in said, said


@pytest.fixture
def a_name_that_is_a_command(tmp_path: Path, path: str) -> Path:
    """Gives the only certificate a name that is a command; returns the file that the command would make."""
    ca = tmp_path / "acme" / "x.test_dir"
    ca.mkdir(parents=True, mode=0o700)
    (ca / "ca.json").touch(0o600)
    (ca / "ca.json").write_text('{"directory": "https://x.test/dir"}')
    (ca / "$(>pwned).chain.pem").touch()
    program = tmp_path / "bin" / "acme-micro"
    program.write_text(program.read_text().replace('"$@"', f'"$@" --folder {ca.parent}'))
    return tmp_path / "pwned"


@SHELLS
def test_a_tab_does_not_run_a_name(command, file, text, path, tmp_path, a_name_that_is_a_command):
    """Neither the TAB nor the completed command line runs the name as a command."""
    (tmp_path / file).write_text(text.format(COMPLETIONS))
    said = typed("acme-micro show --offline \t && echo \\<done\\>", command, path, tmp_path)
    assert re.search(r"\$\(>pwned\) +x.test_dir +-", said) and "<done>" in said, said
    assert not a_name_that_is_a_command.exists()


def test_fish_completes(path, tmp_path):
    for typed, wanted in EXPECTED:
        if "~+" in typed:
            continue
        file = COMPLETIONS / "acme-micro.fish"
        command = f"source {file}; complete -C 'acme-micro {typed}'"
        found = shell(["fish", "-N", "-c", command], env={**os.environ, "PATH": path, "HOME": str(tmp_path)})
        words = [line.split("\t")[0] for line in found.splitlines()]
        assert sorted(words) == sorted(wanted), typed


def test_fish_does_not_run_a_name(path, tmp_path, a_name_that_is_a_command):
    file = COMPLETIONS / "acme-micro.fish"
    command = f"source {file}; complete -C 'acme-micro renew '"
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    found = shell(["fish", "-N", "-c", command], env=environment, cwd=tmp_path)
    assert "$(>pwned)" in [line.split("\t")[0] for line in found.splitlines()]
    assert not a_name_that_is_a_command.exists()


def test_the_manual_is_well_formed():
    lint = subprocess.run(["mandoc", "-T", "lint", str(MANUAL)], capture_output=True, text=True, timeout=30)
    # Other manuals may be missing on this machine.
    assert [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line] == []


def test_the_manual_has_each_option_and_no_other():
    text = MANUAL.read_text()
    described = set(re.findall(r"(?:^\.It|,) Fl (-?[a-z-]+)", text, re.MULTILINE | re.IGNORECASE))
    taken = {
        name[1:]
        for command in generate.commands().walk()
        for argument in command.options
        for name in argument.names
    }
    assert described == taken
    for command in generate.commands().walk():
        if command.name and not command.below:
            assert re.search(rf"^\.It Cm {command.name}( |$)", text, re.MULTILINE), command.name
        for argument in command.arguments:
            for choice in argument.choices:
                assert re.search(rf"(Cm|,) .*\b{choice}\b", text), choice


def test_the_tools_are_here():
    for tool in ("bash", "zsh", "fish", "mandoc"):
        assert shutil.which(tool), f"{tool} is missing: tests/setup installs it"


def test_the_help_is_the_parsers(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parsers = generate.options.make_parser().format_help().replace("optional arguments:", "options:")
    assert parsers == f"{usage.help()}\n"
    assert max(map(len, usage.help().splitlines())) < 80


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_help_fits_the_terminal(columns):
    environment = {**os.environ, "COLUMNS": columns}
    asked = shell([sys.executable, "-m", "acme_micro", "--help"], env=environment)
    assert max(map(len, asked.splitlines())) < int(columns)
