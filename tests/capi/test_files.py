#!/usr/bin/env python3
"""acme_cert_write_files(), killed at each system call and written again, and with each system call failing once:
a server always finds complete files, and a key that fits its certificate."""

import collections
import concurrent.futures
import os
import re
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "target/c/test_files"
PAIRS = ("old", "new", "next")
FILES = {"chain.pem", "key.pem", "cert.pem", "issuers.pem"}

Call = collections.namedtuple("Call", "name nth text")


def make_pairs(root):
    for name in PAIRS:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}.test",
             "-keyout", root / f"{name}.key", "-out", root / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip


class Case:
    """A folder with the files of one program after another."""

    root: Path

    def __init__(self, has_old=True):
        self.out = Path(tempfile.mkdtemp(dir=self.root))
        if has_old:
            assert self.write("old").returncode == 0

    def write(self, pair, under=()):
        command = [*under, PROGRAM, self.root / f"{pair}.pem", self.root / f"{pair}.key", self.out]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def inject(self, fault, pair="new"):
        return self.write(pair, ["strace", "-o", "/dev/null", "-e", f"inject={fault}"])

    def trace(self):
        """Returns the system calls of acme_cert_write_files()."""
        log = self.out.with_suffix(".trace")
        ended = self.write("new", ["strace", "-y", "-s", "200", "-o", log])
        assert ended.returncode == 0, ended.stderr
        seen, calls = collections.Counter(), []
        for line in log.read_text().splitlines():
            found = re.match(r"(\w+)\((.*)", line)
            if found:
                seen[found[1]] += 1
                calls.append(Call(found[1], seen[found[1]], found[2]))
        begin, end = (
            next(n for n, call in enumerate(calls) if call.name == "write" and f'"{mark}\\n"' in call.text)
            for mark in ("begin", "end")
        )
        return calls[begin + 1 : end + 1]

    def content(self, pair):
        """Returns the files of a pair."""
        key, chain = ((self.root / f"{pair}.{ending}").read_text() for ending in ("key", "pem"))
        files = {"chain.pem": chain, "key.pem": key, "cert.pem": chain, "issuers.pem": ""}
        return files, key + chain

    def served(self):
        """Returns which pair the folder has, and which the combined file; None: it does not exist. Checks that a
        server can use them."""
        found = {}
        for what, path in ("folder", self.out / "set"), ("combined", self.out / "both.pem"):
            if not path.exists():
                assert not path.is_symlink(), f"{path} leads nowhere"
                found[what] = None
            elif what == "folder":
                read = {file.name: file.read_text() for file in path.iterdir()}
                found[what] = next(pair for pair in PAIRS if self.content(pair)[0] == read)
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path / "chain.pem", path / "key.pem")
            else:
                found[what] = next(pair for pair in PAIRS if self.content(pair)[1] == path.read_text())
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
        return found["folder"], found["combined"]

    def is_clean(self):
        """Whether there is one folder, and no temporary file."""
        names = [path.name for path in self.out.iterdir() if path.name not in ("both.pem", "set", ".acme-lock")]
        return len(names) == 1 and re.fullmatch(r"\.set\.[0-9a-f]{16}", names[0]) is not None


def kill(call, has_old):
    """Kills the program at a call, and writes again. Returns what is wrong then."""
    case = Case(has_old)
    ended = case.inject(f"{call.name}:signal=KILL:when={call.nth}")
    if ended.returncode not in (-9, 137):
        return [f"at {call}: {ended.returncode}, not killed"]
    return after(call, case, {"old" if has_old else None, "new"})


def fail(call, error):
    """Lets a call fail once, and writes again. Returns what is wrong then."""
    case = Case()
    ended = case.inject(f"{call.name}:error={error}:when={call.nth}")
    at = f"{error} at {call}: {ended.returncode} {ended.stderr}"
    wrong = []
    if ended.returncode == 0 and case.served() != ("new", "new"):
        wrong.append(f"{at}: {case.served()} after a success")
    if ended.returncode != 0 and not re.search(rf"{case.out}.*: ", ended.stderr):
        wrong.append(f"{at}: it does not say where")
    return wrong + after(at, case, {"old", "new"})


def after(at, case, possible):
    try:
        folder, combined = case.served()
    except (StopIteration, AssertionError, ssl.SSLError) as error:
        return [f"at {at}: {error!r} {sorted(case.out.rglob('*'))}"]
    wrong = [] if {folder, combined} <= possible else [f"at {at}: {folder} {combined}"]
    again = case.write("next")
    if again.returncode != 0 or case.served() != ("next", "next") or not case.is_clean():
        wrong.append(f"at {at}: then {again.returncode} {again.stderr} {sorted(case.out.rglob('*'))}")
    return wrong


def all_at_once(work, *items):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return [what for wrong in pool.map(work, *items) for what in wrong]


class Files(unittest.TestCase):
    def test_killed_at_every_system_call(self):
        for has_old in (True, False):
            calls = Case(has_old).trace()
            self.assertGreater(len(calls), 100)
            self.assertEqual(all_at_once(kill, calls, [has_old] * len(calls)), [])

    def test_every_system_call_fails_once(self):
        names = "openat mkdir write fsync fchmod fchown renameat symlinkat unlinkat readlinkat flock getdents64"
        calls = [call for call in Case().trace()[:-1] if call.name in names.split()]
        faults = [(call, error) for call in calls for error in ("ENOSPC", "EIO", "EACCES")]
        self.assertGreater(len(faults), 150)
        self.assertEqual(all_at_once(fail, *zip(*faults)), [])

    def test_a_power_failure_leaves_what_a_kill_leaves(self):
        # Each file and folder is synchronized before a name or a link leads to it.
        synchronized, renamed = set(), []
        for call in Case().trace():
            file = re.match(r"\d+<([^>]*)>", call.text)
            if call.name == "write" and file:
                synchronized.discard(file[1])
            elif call.name == "fsync":
                synchronized.add(file[1])
            elif call.name == "renameat":
                folder, old, new = re.match(r'\d+<([^>]*)>, "([^"]*)", \d+<[^>]*>, "([^"]*)"', call.text).groups()
                renamed.append(new)
                if new == "set":
                    folders = [path for path in synchronized if re.search(r"/\.set\.[0-9a-f]{16}$", path)]
                    self.assertEqual(len(folders), 1, synchronized)
                    self.assertIn(folder, synchronized)  # with the new folder and the new link
                else:
                    self.assertIn(f"{folder}/{old}", synchronized, call)
                synchronized.discard(folder)
            elif call.name == "unlinkat" and "key.pem" in call.text:
                self.assertIn(folder, synchronized, "the old files go before the new link is on the disk")
        self.assertEqual(sorted(renamed), sorted([*FILES, "both.pem", "set"]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="files-") as root:
        Case.root = Path(root)
        make_pairs(Case.root)
        unittest.main()
