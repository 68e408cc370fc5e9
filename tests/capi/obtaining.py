"""Parts that test_crash.py and test_disk.py share. They run the example obtain.c beside their own Pebble,
in their own folders, and make its system calls fail or kill it."""

import collections
import concurrent.futures
import functools
import http.server
import itertools
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings/python/src"))
os.environ["ACME_MICRO_LIBRARY"] = str(ROOT / "target/c/lib/libacme-micro.so.1")

import acme_micro  # noqa: E402

# A CA that behaves the same each time: it refuses no nonce, and reuses no authorization.
STEADY_CA = [
    sys.executable, str(ROOT / "tests/pebble/with_pebble.py"),
    "--env", "PEBBLE_WFE_NONCEREJECT=0", "--env", "PEBBLE_AUTHZREUSE=0", "--",
]  # fmt: skip
INSIDE = "PEBBLE_IS_STEADY"

AT_ONCE = 16  # the programs wait for the CA most of the time
CHALLENGES = ".well-known/acme-challenge"

numbers = itertools.count(1)


def main(script):
    """Runs the tests of a script beside STEADY_CA."""
    if INSIDE not in os.environ:
        os.execve(sys.executable, [*STEADY_CA, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    with tempfile.TemporaryDirectory(prefix="obtaining-") as root:
        Case.root = Path(root)
        os.chmod(root, 0o755)
        serve_webroots(root)
        unittest.main(script)


def serve_webroots(root):
    """Serves the webroot of each case at the address that Pebble requests, by the name of the case."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                name = self.headers["Host"].partition(":")[0]
                text = Path(f"{root}/{name}/webroot{self.path}").read_bytes()
            except OSError:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    address = ("127.0.0.1", int(os.environ["PEBBLE_HTTP_PORT"]))
    server = http.server.ThreadingHTTPServer(address, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def pebble_log():
    return Path(os.environ["PEBBLE_LOG"]).read_text(errors="replace")


def all_at_once(work, items):
    """Returns the results of work(item) for all items; several calls run at the same time."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


Call = collections.namedtuple("Call", "name nth text")


class Case:
    """A name with its folder, its webroot, and its orders and certificates at the CA."""

    root: Path

    def __init__(self, what="case"):
        self.name = f"{what}-{next(numbers)}.test"
        self.folder = self.root / self.name
        self.out = self.folder / "out"
        self.webroot = self.folder / "webroot"
        self.webroot.mkdir(parents=True)

    def command(self, names=None, port=None):
        answer = ["--port", port] if port else ["--webroot", str(self.webroot)]
        return [
            str(ROOT / "target/c/obtain"), "--directory", os.environ["ACME_DIRECTORY"],
            "--ca-file", os.environ["ACME_CA_FILE"], "--agree-terms", *answer,
            "--out", str(self.out), *(names or [self.name]),
        ]  # fmt: skip

    def run(self, under=(), **how):
        """Runs obtain until it ends, with any exit status."""
        command = [*under, *self.command(**how)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def inject(self, *faults, path=None, **how):
        """Runs obtain with these faults (strace's --inject); with ``path``, only in calls about this path."""
        under = ["strace", "-f", "-o", "/dev/null", *(["-P", str(path)] if path else [])]
        for fault in faults:
            under += ["-e", f"inject={fault}"]
        return self.run(under, **how)

    def kill(self, call):
        """Runs obtain and kills it at this system call. Returns whether obtain reached the call."""
        ended = self.inject(f"{call.name}:signal=KILL:when={call.nth}").returncode
        assert ended in (0, -9, 137), ended
        return ended != 0

    def trace(self):
        """Returns the system calls of a run that succeeds, from the first that concerns its files."""
        log = self.folder / "trace"
        ended = self.run(under=["strace", "-f", "-y", "-s", "64", "-o", str(log)])
        assert ended.returncode == 0, ended.stderr
        seen, calls = collections.Counter(), []
        for line in log.read_text(errors="replace").splitlines():
            found = re.match(r"\d+ +(\w+)\((.*)", line)
            if found:
                seen[found[1]] += 1
                # The number of times that a timeout is set depends on how fast the run is.
                if "TIMEO_" not in found[2]:
                    calls.append(Call(found[1], seen[found[1]], found[2]))
        start = next(n for n, call in enumerate(calls) if n > 0 and '/out"' in call.text)
        end = next(n for n, call in enumerate(calls) if call.name == "exit_group")
        return calls[start:end]

    def preload(self, source):
        """Compiles C functions that replace the system's; returns the command prefix that loads them."""
        library = self.folder / "preloaded.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library],
            input="#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n"
            "#include <unistd.h>\n" + source, text=True, check=True,
        )  # fmt: skip
        return ["env", f"LD_PRELOAD={library}"]

    def snapshot(self):
        """Copies the files to another folder and returns it; restore() copies them back."""
        folder = self.folder / f"snapshot-{next(numbers)}"
        shutil.copytree(self.out, folder)
        return folder

    def restore(self, snapshot):
        shutil.rmtree(self.out)
        shutil.copytree(snapshot, self.out)

    # --- the result -----------------------------------------------------------------------------

    def path(self, ending):
        return self.out / (self.name + ending)

    def text(self, ending):
        return self.path(ending).read_text()

    def files(self):
        return sorted(path.name for path in self.out.iterdir() if path.name != ".lock")

    def all_files(self):
        """Checks the contents of the folder after a success."""
        return sorted(
            ["account.pem", "account.url", "directory.url", self.name + ".chain.pem", self.name + ".key.pem"]
        )

    def published(self):
        folder = self.webroot / CHALLENGES
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def is_a_pair(self):
        """Whether the certificate and the key belong together."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.path(".chain.pem"), self.path(".key.pem"))  # raises if they do not
        return True

    def torn(self):
        """Returns the incomplete files among those with final names."""
        ends = {
            "account.pem": "-----END PRIVATE KEY-----\n",
            ".key.pem": "-----END PRIVATE KEY-----\n",
            ".chain.pem": "-----END CERTIFICATE-----\n",
            ".order": "\n",
        }
        return [
            path.name
            for path in (self.out.iterdir() if self.out.exists() else [])
            for ending, last in ends.items()
            if path.name.endswith(ending) and not path.read_text().endswith(last)
        ]

    def client(self):
        return acme_micro.Client(
            directory_url=os.environ["ACME_DIRECTORY"],
            account_key=acme_micro.PrivateKey.load(self.out / "account.pem"),
            ca_file=os.environ["ACME_CA_FILE"],
        )

    def orders(self):
        """Returns the ids of this account's orders at the CA."""
        if not (self.out / "account.pem").exists():
            return []
        try:
            return [url.rpartition("/")[2] for url in self.client().orders()]
        except acme_micro.AcmeError as error:
            if "accountDoesNotExist" in str(error.problem):
                return []
            raise

    def certificates(self):
        """Returns the number of certificates that the CA has issued for this name."""
        orders, issued = self.orders(), re.findall(r"Issued certificate .* for order (\S+)", pebble_log())
        return sum(order in issued for order in orders)


@functools.lru_cache(maxsize=1)
def usual_calls():
    """Returns the system calls of a whole issuance, each as the n-th of its name. The CA must have decided by
    the first poll; there are then ten requests, with one call each, and two calls of the TLS handshake."""
    for _ in range(30):
        calls = Case("usual").trace()
        if sum(call.name == "sendto" for call in calls) == 12:
            return calls
    raise AssertionError("the CA has never decided by the first look")


def about_files(calls):
    """Returns the calls that concern the folder or the webroot."""
    return [call for call in calls if "/out" in call.text or "/webroot" in call.text]


def is_well(case):
    """Checks the state after a crash and another run. Returns None, or a description of what is wrong."""
    try:
        assert case.is_a_pair(), "the key is another certificate's"
        assert case.files() == case.all_files(), case.files()
        assert case.published() == [], "a challenge was left behind"
        assert case.certificates() == 1, "it has more than one certificate"
    except (AssertionError, OSError) as error:
        return f"{case.name}: {error}"
    return None
