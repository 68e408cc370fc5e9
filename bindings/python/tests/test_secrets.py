"""No output of the package contains a secret: log lines at any level, errors, reprs, pickles."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import acme_micro as acme

WITH_PEBBLE = Path(__file__).resolve().parents[3] / "tests" / "pebble" / "with_pebble.py"

# Prints all that it can, and at the end the secrets, which must not be in the rest.
PROGRAM = """
import logging, os, pickle, sys, traceback
import acme_micro as acme

logging.basicConfig(level=1, stream=sys.stdout, force=True)
acme.logging.install(acme._native.LogLevel.TRACE)
directory, ca_file = os.environ["ACME_DIRECTORY"], os.environ["ACME_CA_FILE"]
key_id, mac = os.environ["EAB"].split(":")
account, key, new = (acme.PrivateKey.generate(kind) for kind in
                     (acme.KeyType.P256, acme.KeyType.P384, acme.KeyType.P256))
authorizations = []

class Solver(acme.Standalone):
    def publish(self, challenges):
        authorizations.extend(c.key_authorization for c in challenges)
        print(challenges, *map(repr, challenges))
        super().publish(challenges)

class Nobody(acme.MemoryHttp01):
    def publish(self, challenges):
        authorizations.extend(c.key_authorization for c in challenges)

class Locked(Nobody):
    def publish(self, challenges):
        super().publish(challenges)
        raise OSError("the zone is locked")

    def unpublish(self, challenges):
        raise RuntimeError("and cannot be unlocked")

def show(error):
    print(error, repr(error), error.__dict__, pickle.dumps(error))
    traceback.print_exception(error, file=sys.stdout)

def failing(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except Exception as error:
        show(error)
    else:
        raise SystemExit(f"{function} did not fail")

port = int(os.environ["PEBBLE_HTTP_PORT"])
failing(acme.Client, directory, account, eab=(key_id, mac + "!"), ca_file=ca_file)
failing(acme.Client, directory, account, eab=("", mac), ca_file=ca_file)
with acme.Client(directory, account, eab=("unknown", mac), terms_agreed=True, ca_file=ca_file) as ca:
    failing(ca.register)
with acme.Client(directory, account, eab=(key_id, mac), terms_agreed=True, ca_file=ca_file) as ca:
    failing(ca.obtain, ["a.test"], Nobody())
    failing(ca.obtain, ["b.test"], Locked())
    failing(ca.obtain, ["c.test"], Nobody(), key=account)
    operation = ca.begin_order(["d.test"], key=key)
    solver = Solver(port)
    for step in operation:
        if not isinstance(step, acme.Request):  # a request is for the CA
            print(step, repr(operation))
        match step:
            case acme.Request():
                print(repr(step))
                step.send()
            case acme.Wait(seconds):
                __import__("time").sleep(seconds)
            case acme.Publish(challenges):
                solver.publish(challenges)
            case acme.Unpublish(challenges):
                solver.unpublish(challenges)
    print(operation.certificate, operation.key, ca, account, key, new, vars(operation), vars(ca))
    ca.change_key(new)
    ca.revoke(operation.certificate)
    print(ca.account_url, ca.orders())
failing(acme.PrivateKey.parse, account.pem[:100])
failing(acme.PrivateKey.parse, account.pem + key.pem)
with acme.Store(os.environ["FOLDER"]) as store:
    failing(store.client, directory, eab=(key_id, mac[:4]))
    print(store, store.account_key())
    os.chmod(store.folder + "/account.pem", 0o644)
    failing(store.account_key)
assert len(authorizations) >= 3
print("=== not to be seen")
for secret in (account.pem, key.pem, new.pem):
    print("pem", secret.encode().hex())
for secret in (mac, *authorizations):
    print("text", secret.encode().hex())
"""


def forms(kind: str, secret: bytes) -> list[str]:
    """Returns the ways in which each 32 bytes of a secret could be written."""
    if kind == "text" and b"." in secret:
        # The token and the thumbprint are not secret; the key authorization, which joins them, is.
        dot = secret.index(b".")
        pieces, written = [secret[dot - 16 : dot + 16], hashlib.sha256(secret).digest()], [secret.decode()]
    elif kind == "text":
        pieces, written = [secret, base64.urlsafe_b64decode(secret + b"==")], [secret.decode()]
    else:
        lines = secret.decode().splitlines()[1:-1]
        whole = base64.b64decode("".join(lines))
        # The scalar of PKCS#8 is after the algorithm and before the public key.
        start = whole.index(b"\x04\x20" if len(whole) < 160 else b"\x04\x30", 8) + 2
        pieces, written = [whole[start : start + 32]], [lines[0][48:]]
        if len(whole) < 60:  # Ed25519
            pieces, written = [whole[-32:]], [lines[0][-40:]]
    for piece in pieces:
        for at in range(max(1, len(piece) - 31)):
            window = piece[at : at + 32]
            coded = base64.b64encode(window[: len(window) // 3 * 3]).decode()
            written += [window.hex(), window.hex().upper(), coded]
            written += [coded.replace("+", "-").replace("/", "_"), str(list(window))[1:-1], repr(window)[2:-1]]
    return [form for form in written if len(form) > 12]


def test_s03_no_output_contains_a_secret(tmp_path):
    mac = secrets.token_urlsafe(32)
    command = [sys.executable, str(WITH_PEBBLE), "--eab", f"kid:{mac}", "--", sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120,
        env={**os.environ, "EAB": f"kid:{mac}", "FOLDER": str(tmp_path / "store")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said, secret_lines = done.stdout.split("=== not to be seen\n")
    assert "DEBUG:acme_micro:" in said and "the zone is locked" in said and len(said) > 5000
    for line in secret_lines.splitlines():
        kind, secret = line.split()
        for form in forms(kind, bytes.fromhex(secret)):
            assert form not in said + done.stderr, (kind, form)


def test_s03_the_search_finds_secrets():
    key = acme.PrivateKey.generate()
    for kind in (acme.KeyType.P256, acme.KeyType.P384, acme.KeyType.ED25519):
        key = acme.PrivateKey.generate(kind)
        assert any(form in key.pem for form in forms("pem", key.pem.encode())), kind
        der = base64.b64decode("".join(key.pem.splitlines()[1:-1]))
        assert any(form in der.hex() for form in forms("pem", key.pem.encode())), kind
    mac = secrets.token_urlsafe(32)
    assert all(shown in forms("text", mac.encode()) for shown in (mac,))
