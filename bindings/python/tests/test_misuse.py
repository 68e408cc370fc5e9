"""Programs that misuse the package: wrong types, closed objects, subinterpreters, solvers that interfere."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import tracemalloc

import pytest

import acme_micro as acme

ODD = [None, 1, -1, 2**70, 1.5, float("nan"), b"\xff", "\udcff", "x\0y", object(), [], {}, [b"x"], print]


def new_client():
    return acme.Client("https://ca.example/directory", acme.PrivateKey.generate())


# The names of the tests must not contain an address, which differs in each worker of pytest-xdist.
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd).split(" at 0x")[0])
def test_f24_wrong_types_and_values_are_refused(odd):
    key, ca = acme.PrivateKey.generate(), new_client()
    calls = [
        lambda: acme.Client(odd, key),
        lambda: acme.Client("https://ca.example/directory", odd),
        lambda: acme.PrivateKey.generate(odd),
        lambda: acme.PrivateKey.parse(odd),
        lambda: acme.PrivateKey.parse_encrypted(odd, "x"),
        lambda: acme.PrivateKey.parse_encrypted(key.pem, odd),
        lambda: acme.PrivateKey.from_public(odd),
        lambda: acme.SigningRequest.parse(odd),
        lambda: acme.SigningRequest.create(odd, ["x.test"]),
        lambda: acme.SigningRequest.create(key, odd),
        lambda: acme.Certificate.parse(odd),
        lambda: ca.begin_order(odd),
        lambda: ca.begin_order([odd]),
        lambda: ca.begin_abandon_order(odd),
        lambda: ca.begin_deactivate_authorization(odd),
        lambda: ca.begin_key_change(odd),
        lambda: ca.begin_revoke(odd),
        lambda: ca.begin_renewal_info(odd),
    ]
    for call in calls:
        # 1 is the key type P-256; the others must be refused.
        if odd == 1 and call is calls[2]:
            continue
        with pytest.raises((TypeError, ValueError)):
            call()
    for argument in (odd, "x"), ("x", odd):
        try:
            assert acme.http01_answer(*argument) is None
        except (TypeError, ValueError):
            pass


def test_f24_numbers_too_large_for_c_are_refused():
    with pytest.raises(ValueError, match="request_timeout"):
        acme.Client("https://ca.example/", acme.PrivateKey.generate(), request_timeout=2**70)
    new_client().begin_order(["x.test"], timeout=2**70).close()  # practically without a timeout
    for timeout in -1, -(2**70), 0, float("nan"):
        with pytest.raises(ValueError, match="timeout"):
            new_client().begin_order(["x.test"], timeout=timeout)


def test_f24_closed_objects_raise_an_error_that_says_so():
    key, ca = acme.PrivateKey.generate(), new_client()
    operation, csr = ca.begin_order(["x.test"]), acme.SigningRequest.create(key, ["x.test"])
    for closed in key, operation, csr, ca:
        closed.close()
        assert closed.closed and "closed" in repr(closed)
        with pytest.raises(ValueError, match="is closed"), closed:
            pass
    for use in (
        lambda: key.pem,
        lambda: key.thumbprint,
        lambda: csr.der,
        lambda: next(operation),
        lambda: operation.run(),
        lambda: ca.account_url,
        lambda: ca.http01_answer("/"),
        lambda: ca.begin_register(),
        lambda: acme.Client("https://ca.example/", key),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_f24_handles_cannot_be_pickled_and_copies_share_them():
    key = acme.PrivateKey.generate()
    ca = new_client()
    for handle in key, ca, ca.begin_order(["x.test"]), acme.SigningRequest.create(key, ["x.test"]):
        with pytest.raises((TypeError, ValueError)):
            pickle.dumps(handle)
        with pytest.raises((TypeError, ValueError)):
            copy.deepcopy(handle)
    other = copy.copy(key)
    key.close()
    del key
    gc.collect()
    assert "PRIVATE KEY" in other.pem


def test_f24_no_object_is_left_behind():
    def once():
        with new_client() as ca, ca.begin_order(["x.test"]) as operation:
            next(operation)
            with pytest.raises(acme.InvalidArgument):
                ca.begin_order([])

    for _ in range(20):
        once()
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(200):
        once()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(gc.get_objects()) - objects < 100 and after - before < 50_000


def run_alone(code, *options):
    """Runs a Python process, which must not write any warning."""
    command = [sys.executable, "-X", "dev", "-W", "error", *options, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_f24_in_development_mode_and_left_open_at_exit():
    assert run_alone("""
        import acme_micro as acme
        key = acme.PrivateKey.generate()
        client = acme.Client("https://ca.example/directory", key)
        operation = client.begin_order(["x.test"])
        request = next(operation)
        acme.logging  # all objects are open when the interpreter ends
        circle = [operation, client]
        circle.append(circle)
        print("fine")
    """) == "fine\n"


def test_f24_in_a_subinterpreter():
    assert run_alone("""
        import _xxsubinterpreters as interpreters
        code = '''if True:
            import acme_micro as acme
            client = acme.Client("https://ca.example/directory", acme.PrivateKey.generate())
            assert isinstance(next(client.begin_order(["x.test"])), acme.Request)
        '''
        import acme_micro as acme
        key = acme.PrivateKey.generate()
        for _ in range(3):
            interpreter = interpreters.create()
            interpreters.run_string(interpreter, code)
            interpreters.destroy(interpreter)
        assert "PRIVATE KEY" in key.pem
        print("fine")
    """) == "fine\n"


def test_f24_y09_a_solver_that_interferes(client, standalone):
    """A callback collects garbage, lets other threads run, forks, and drops the last reference."""
    alive, busy = [client], threading.Event()

    def spin():
        while not busy.is_set():
            sum(range(100))

    class Meddler:
        challenge_types = ("http-01",)

        def publish(self, challenges):
            standalone.publish(challenges)
            gc.collect()
            alive.clear()
            gc.collect()
            child = os.fork()
            if child == 0:
                os._exit(7 if all(c.key_authorization for c in challenges) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

        def unpublish(self, challenges):
            gc.collect()
            standalone.unpublish(challenges)

    interval = sys.getswitchinterval()
    threads = [threading.Thread(target=spin) for _ in range(3)]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(1e-5)
    try:
        certificate = client.obtain(["meddler.test"], Meddler())
    finally:
        sys.setswitchinterval(interval)
        busy.set()
        for thread in threads:
            thread.join()
    assert list(certificate.names) == ["meddler.test"]


def test_y08_nothing_is_printed_when_a_callback_raises():
    """No "Exception ignored in" and no traceback appears: the exception is raised in the program."""
    assert run_alone("""
        import os, acme_micro as acme

        class Broken(acme.MemoryHttp01):
            def publish(self, challenges):
                raise KeyError("no such zone")

        client = acme.Client(os.environ["ACME_DIRECTORY"], acme.PrivateKey.generate(),
                             terms_agreed=True, ca_file=os.environ["ACME_CA_FILE"])
        try:
            client.obtain(["broken.test"], Broken())
        except KeyError as error:
            print(error)
    """) == "'no such zone'\n"
