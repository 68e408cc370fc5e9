#!/usr/bin/env python3
"""bindings/c-examples/obtain.c beside Pebble: on disks that are full, broken or read-only, in folders with
obstacles, and with several processes in the same folder."""

import ctypes
import itertools
import os
import re
import subprocess
import sys
import threading
import unittest

from obtaining import CHALLENGES, Case, about_files, all_at_once, is_well, main, usual_calls

LIBC = ctypes.CDLL(None, use_errno=True)

# A private file system, which no other process sees.
PRIVATE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-ec"]
HAS_PRIVATE = subprocess.run([*PRIVATE, "mount -t tmpfs none /tmp"], capture_output=True).returncode == 0
if not HAS_PRIVATE:
    print("NOT RUN: disks that are really full or read-only, for want of a mount namespace")

WRITES = "mkdir openat write fsync close renameat unlinkat flock mkdirat".split()
ERRORS = {
    "ENOSPC": "No space left on device",
    "EIO": "Input/output error",
    "EACCES": "Permission denied",
    "EDQUOT": "Disk quota exceeded",
    "EROFS": "Read-only file system",
    "ENOTDIR": "Not a directory",
    "ELOOP": "Too many levels of symbolic links",
    "ENAMETOOLONG": "File name too long",
    "EXDEV": "Invalid cross-device link",
    "ESTALE": "Stale file handle",
    "EISDIR": "Is a directory",
    "EINTR": "Interrupted system call",
    "ENOLCK": "No locks available",
}
PLACES = r"(account\.pem|\.revoking|\.lock|\.schedule\.json|account\.url|directory\.url|\.key\.pem|\.chain\.pem|\.order|\.record|/out|/webroot|acme-challenge/.*): "


def fail(fault):
    """Runs once with a call that fails once, and runs again. Returns what is wrong then."""
    call, error = fault
    case = Case("disk")
    ended = case.inject(f"{call.name}:error={error}:when={call.nth}")
    at = f"{error} at {call}: {ended.returncode} {ended.stderr}"
    wrong = [f"{at}: torn: {torn}" for torn in case.torn()]
    # The next run removes a temporary file that cannot be removed.
    is_removal = call.name == "unlinkat" and '"tmp-' in call.text
    if case.out.exists() and any(name.startswith("tmp-") for name in case.files()) and not is_removal:
        wrong.append(f"{at}: a temporary file is left")
    keys = {path: path.read_text() for path in case.out.glob("*.pem")}
    if ended.returncode != 0:
        if not re.search(PLACES + ERRORS[error], ended.stderr):
            wrong.append(f"{at}: it does not say what and why")
        again = case.run()
        if again.returncode != 0:
            wrong.append(f"{at}: afterwards: {again.stderr}")
    # There must be no second order, whichever file could not be written.
    wrong += [f"{at}: {ill}" for ill in [is_well(case)] if ill]
    if len(case.orders()) != 1:
        wrong.append(f"{at}: {len(case.orders())} orders")
    wrong += [f"{at}: {path} is lost" for path, text in keys.items() if path.read_text() != text]
    return wrong


def the_calls(name, text, calls=None):
    return [c for c in calls or usual_calls() if c.name == name and re.search(text, c.text)]


def temporary(number):
    """Returns the call that begins to write the number-th file. 1 and 3 only show that there is room; the keys
    are 2 and 4, the journal 5, the chain 10."""
    return the_calls("openat", '"tmp-')[number - 1]


class Disk(unittest.TestCase):
    maxDiff = None

    def refuses(self, case, ended, why):
        """Checks that the program printed this reason, and placed no order."""
        self.assertEqual(ended.returncode, 1, ended.stderr)
        self.assertRegex(ended.stderr, why)
        self.assertEqual(case.orders(), [])

    def test_w01_w02_w03_every_call_of_the_store_fails_once(self):
        calls = about_files(usual_calls())
        faults = [
            (call, error)
            for call in calls
            for error in ("ENOSPC", "EIO", "EACCES")
            if call.name in WRITES or error == "EIO"
        ]
        faults += [(call, error) for call in the_calls("close", "tmp-") for error in ("EDQUOT", "EINTR")]
        self.assertGreater(len(faults), 150)
        self.assertEqual([what for wrong in all_at_once(fail, faults) for what in wrong], [])

    def test_w01_the_old_certificate_stays(self):
        def fail_at(call):
            """Makes a renewal fail at this call about the chain. Returns the case, its old chain and the output."""
            for _ in range(5):  # with another connection, the numbers of the calls differ
                case = Case("old")
                self.assertEqual(case.run().returncode, 0)
                calls = case.trace()  # this run renews the certificate, too
                old = case.text(".chain.pem")
                first = the_calls("openat", '"tmp-', calls)[-1]
                after = [c for c in calls[calls.index(first) :] if "/out" in c.text]
                nth = [c for c in after if c.name == call][0].nth
                ended = case.inject(f"{call}:error=ENOSPC:when={nth}")
                if ".chain.pem" in ended.stderr:
                    break
            return case, old, ended

        def renew(call):
            case, old, ended = fail_at(call)
            self.assertEqual(ended.returncode, 1, ended.stderr)
            self.assertIn(".chain.pem: No space left", ended.stderr)
            if call != "fsync":
                self.assertEqual(case.text(".chain.pem"), old)
            self.assertEqual(case.certificates(), 3)
            self.assertEqual(case.run().returncode, 0)
            self.assertNotEqual(case.text(".chain.pem"), old)
            return case.certificates()

        # A failure of close() has no effect: fsync() has succeeded before.
        self.assertEqual(all_at_once(renew, ["openat", "write", "fsync", "renameat"]), [3] * 4)

    def test_w04_one_byte_at_a_time(self):
        case = Case("short")
        ended = case.run(case.preload(
            "ssize_t write(int file, const void *data, size_t size)\n"
            "{ return syscall(SYS_write, file, data, size > 1 ? 1 : size); }\n"
        ))  # fmt: skip
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIsNone(is_well(case))

    def test_w05_found_out_before_the_ca_is_asked(self):
        def refuse(what):
            error, call = what
            case = Case("refused")
            ended = case.inject(f"{call.name}:error={error}:when={call.nth}")
            self.refuses(case, ended, rf"\.order: {ERRORS[error]}")
            return error

        journal = temporary(5)
        errors = "EACCES EROFS ENOTDIR ELOOP ENAMETOOLONG ESTALE EISDIR ENOSPC EDQUOT".split()
        what = [(error, journal) for error in errors]
        what.append(("EXDEV", the_calls("renameat", r'\.order"')[0]))
        self.assertEqual(all_at_once(refuse, what), [error for error, _ in what])

    def test_w06_something_is_in_the_way(self):
        def meet(what):
            ending, kind = what
            case = Case("way")
            case.out.mkdir()
            place = case.out / ending if not ending.startswith(".") else case.path(ending)
            outside = case.folder / "outside"
            outside.write_text("precious")
            {
                "link": lambda: place.symlink_to(outside),
                "pipe": lambda: os.mkfifo(place),
                "folder": lambda: place.mkdir(),
                "device": lambda: os.mknod(place, 0o600 | 0o020000, os.makedev(1, 3)),
            }[kind]()
            ended = case.run()
            self.assertEqual(ended.returncode, 1, what)
            self.assertRegex(ended.stderr, rf"{re.escape(place.name)}: \w+", what)
            self.assertEqual(outside.read_text(), "precious")
            self.assertFalse(place.is_file() and not place.is_symlink())
            asked = (case.out / "account.url").is_file() and ending != "account.url"
            self.assertFalse(asked, "the CA was asked")
            return what

        kinds = ["link", "pipe", "folder"] + (["device"] if os.geteuid() == 0 else [])
        files = ["account.pem", "account.url", "directory.url", ".key.pem", ".chain.pem", ".order"]
        what = list(itertools.product(files, kinds))
        self.assertEqual(all_at_once(meet, what), what)

    def test_w06_a_second_name_keeps_the_old_text(self):
        case = Case("hard")
        self.assertEqual(case.run().returncode, 0)
        other = case.folder / "other"
        os.link(case.path(".chain.pem"), other)
        old = other.read_text()
        self.assertEqual(case.run().returncode, 0)
        self.assertEqual(other.read_text(), old)
        self.assertNotEqual(case.text(".chain.pem"), old)

    def test_w07_the_webroot_leads_nowhere_else(self):
        case = Case("swap")
        outside = case.folder / "outside"
        outside.mkdir()
        place, link = case.webroot / CHALLENGES, case.webroot / "link"
        place.mkdir(parents=True)
        link.symlink_to(outside)
        stop, swaps = threading.Event(), itertools.count()

        def swap():
            here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
            while not stop.is_set():
                swapped = LIBC.renameat2(here, bytes(place), here, bytes(link), exchange)
                assert swapped == 0
                next(swaps)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(8):  # some runs end early, because of a link in the way
                case.run()
                self.assertEqual(list(outside.iterdir()), [])
        finally:
            stop.set()
            thread.join()
        self.assertGreater(next(swaps), 10_000)
        # If a link stays, the message names it.
        other = Case("link")
        (other.webroot / ".well-known").symlink_to(outside)
        ended = other.run()
        self.assertEqual(ended.returncode, 4)
        self.assertRegex(ended.stderr, r"acme-challenge/\S+: a symbolic link, which is not followed")
        self.assertEqual(list(outside.iterdir()), [])

    def test_w08_temporary_names_cannot_be_foreseen(self):
        cases = Case("names"), Case("names")
        names = [
            re.search('"(tmp-[0-9a-f]{16})"', call.text)[1]
            for case in cases
            for call in the_calls("openat", '"tmp-', case.trace())
        ]
        self.assertEqual(len(set(names)), 20)
        # An attacker has guessed a name nevertheless.
        call = temporary(1)
        case = Case("guessed")
        self.assertEqual(case.inject(f"openat:error=EEXIST:when={call.nth}").returncode, 0)
        self.assertIsNone(is_well(case))
        # An attacker has guessed all names.
        case = Case("guessed")
        log = case.folder / "log"
        ended = case.run(["strace", "-f", "-o", str(log), "-e", f"inject=openat:error=EEXIST:when={call.nth}+"])
        self.assertEqual(log.read_text().count('"tmp-'), 20)
        self.assertIn("/out: all random names for a temporary file are taken", ended.stderr)
        self.assertEqual(ended.returncode, 1)

    def test_w09_only_what_is_our_own_is_swept(self):
        case = Case("sweep")
        case.out.mkdir()
        ours = case.out / "tmp-0123456789abcdef"
        others = [case.out / "tmp-notes", case.out / "tmp-0123456789abcde", case.out / "notes"]
        for path in [ours, *others]:
            path.write_text("text")
        folder = case.out / "tmp-00000000000000ff"
        folder.mkdir()
        if os.geteuid() == 0:
            others.append(case.out / "tmp-00000000000000fe")
            others[-1].write_text("text")
            os.chown(others[-1], 65534, 65534)
        self.assertEqual(case.run().returncode, 0)
        self.assertFalse(ours.exists())
        self.assertTrue(folder.is_dir())
        self.assertEqual([path.read_text() for path in others], ["text"] * len(others))

    def test_w10_readers_never_see_a_key_and_another_certificate(self):
        case = Case("reader")
        self.assertEqual(case.run().returncode, 0)
        stop, loads, wrong = threading.Event(), itertools.count(), []

        def read():
            while not stop.is_set():
                try:
                    case.is_a_pair()
                    next(loads)
                except OSError as error:
                    wrong.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        chains = set()
        for _ in range(3):
            self.assertEqual(case.run().returncode, 0)
            chains.add(case.text(".chain.pem"))
        stop.set()
        thread.join()
        self.assertEqual((wrong, len(chains)), ([], 3))
        self.assertGreater(next(loads), 100)

    def test_w11_files_may_not_grow(self):
        case = Case("limit")
        limit = ["prlimit", "--fsize=900"]
        ended = case.run(limit)
        self.assertEqual(ended.returncode, 1, ended.stderr)
        # The program has found out before the CA got a request.
        self.assertIn("/out: File too large", ended.stderr)
        self.assertEqual(case.orders(), [])
        self.assertEqual(case.run().returncode, 0)
        self.assertEqual((is_well(case), len(case.orders())), (None, 1))

    def test_o36_r17_w12_names_and_the_names_of_files(self):
        case = Case("paths")
        for bad in [
            "", ".", "..", "../x", "a/b", "/etc/x", ".hidden", ".example.org", "x" * 250, "127.1", "1.2.3",
            "10.0.0.256", "*.1.2.3", "0x7f.1", "::ffff:127.0.0.1", "https://a.test", "a.test:80", "[::1]",
        ]:  # fmt: skip
            for names in [bad], ["good.test", bad]:
                ended = case.run(names=names)
                self.assertEqual(ended.returncode, 2, bad)
                self.assertIn(f'the name "{bad}" is ', ended.stderr)
        # http-01 cannot validate a wildcard.
        self.assertEqual(case.run(names=["*.paths.test"]).returncode, 2)
        self.assertFalse(case.out.exists())
        # No server listens at these addresses, so that the challenges fail.
        for name, file in [("::1", "::1"), ("CON", "con")]:
            self.assertIn(case.run(names=[name]).returncode, (3, 4), name)
            self.assertTrue((case.out / f"{file}.key.pem").is_file(), name)
        # On a file system that ignores case, these are the same files.
        case = Case("case")
        self.assertEqual(case.run(names=[case.name.upper()]).returncode, 0)
        self.assertEqual(case.files(), case.all_files())
        self.assertTrue(case.is_a_pair())

    # --- real file systems with these faults ------------------------------------------------------

    def private(self, case, script):
        """Runs a shell script that may mount file systems, which no other process sees."""
        command = case.command()
        return subprocess.run(
            [*PRIVATE, script], capture_output=True, text=True, timeout=120,
            env={**os.environ, "OUT": str(case.out), "WEBROOT": str(case.webroot),
                 "KEPT": str(case.folder / "kept"), "OBTAIN": " ".join(command)},
        )  # fmt: skip

    @unittest.skipUnless(HAS_PRIVATE, "no mount namespace")
    def test_w13_the_disk_is_full_and_then_is_not(self):
        case = Case("full")
        ended = self.private(case, """
            mkdir "$OUT" && mount -t tmpfs -o size=256k,mode=0755 none "$OUT"
            # From when the challenge is noted in the journal to the order's end there is time.
            (until grep -q published "$OUT"/*.order; do sleep 0.001; done
             cat /dev/zero >"$OUT/filler" || true) >/dev/null 2>&1 &
            if $OBTAIN; then kill $!; exit 9; fi
            wait
            cat "$OUT"/*.order
            rm "$OUT/filler"
            $OBTAIN
            cp -r "$OUT" "$KEPT"
        """)  # fmt: skip
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn(".chain.pem: No space left on device", ended.stderr)
        self.assertIn("\norder https://", ended.stdout)
        (case.folder / "kept").rename(case.folder / "files")
        case.out.rmdir()
        (case.folder / "files").rename(case.out)
        self.assertEqual((is_well(case), len(case.orders())), (None, 1))

    @unittest.skipUnless(HAS_PRIVATE, "no mount namespace")
    def test_w01_w14_no_room_from_the_beginning(self):
        for options in ["size=4k", "size=12k", "nr_inodes=2", "nr_inodes=4"]:
            case = Case("tight")
            ended = self.private(case, f"""
                mkdir "$OUT" && mount -t tmpfs -o {options},mode=0755 none "$OUT"
                status=0; $OBTAIN || status=$?
                mkdir "$KEPT" && cp "$OUT"/*.pem "$KEPT" || true
                exit $status
            """)  # fmt: skip
            case.out = case.folder / "kept"
            self.refuses(case, ended, r"(/out|\.lock|\.pem|\.order): No space left on device")

    @unittest.skipUnless(HAS_PRIVATE, "no mount namespace")
    def test_w05_w15_read_only(self):
        case = Case("frozen")
        self.assertEqual(case.run().returncode, 0)
        before = {path.name: path.read_text() for path in case.out.iterdir()}
        ended = self.private(case, """
            mount --bind "$OUT" "$OUT" && mount -o remount,ro,bind "$OUT"
            $OBTAIN
        """)  # fmt: skip
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr, r"/out(/\.lock)?: Read-only file system")
        self.assertEqual({path.name: path.read_text() for path in case.out.iterdir()}, before)
        self.assertTrue(case.is_a_pair())
        self.assertEqual(len(case.orders()), 1)

    # --- several processes in one folder ----------------------------------------------------------

    def test_y13_several_at_once_in_one_folder(self):
        def race(_):
            case = Case("race")
            programs = [
                subprocess.Popen(case.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(2)
            ]
            ended = [(program.communicate(timeout=120), program.returncode) for program in programs]
            self.assertEqual([status for _, status in ended], [0, 0], ended)
            self.assertIsNone(is_well(case))
            return len(case.orders())

        self.assertEqual(all_at_once(race, range(8)), [1] * 8)

    def test_y14_who_holds_the_lock_is_killed(self):
        case = Case("holder")
        case.out.mkdir()
        holder = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, os, sys, time\n"
             "file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)\n"
             "fcntl.flock(file, fcntl.LOCK_EX)\n"
             "print('locked', flush=True)\ntime.sleep(600)", str(case.out / ".lock")],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(holder.kill)
        self.assertEqual(holder.stdout.readline(), "locked\n")
        waiter = subprocess.Popen(
            case.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.assertIn("waiting for another program", waiter.stderr.readline())
        self.assertIsNone(waiter.poll())
        holder.kill()
        self.assertEqual(waiter.communicate(timeout=120)[1], "")
        self.assertEqual(waiter.returncode, 0)

    @unittest.skipUnless(os.geteuid() == 0, "NOT RUN: only root can be another user")
    def test_s02_another_user_cannot_hold_us_up(self):
        case = Case("held")
        self.assertEqual(case.run().returncode, 0)
        for path in [case.out.parent, case.out]:
            path.chmod(0o755)
        # The attacker takes all the locks that it can get.
        holder = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, os, sys, time\n"
             "os.setuid(65534)\n"
             "for name in ['.', *os.listdir(sys.argv[1])]:\n"
             "    try: fcntl.flock(os.open(sys.argv[1] + '/' + name, os.O_RDONLY), fcntl.LOCK_EX)\n"
             "    except PermissionError: print(name, end=' ')\n"
             "print('locked', flush=True)\ntime.sleep(600)", str(case.out)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(holder.kill)
        self.assertIn(".lock ", holder.stdout.readline())
        self.assertEqual(case.run().returncode, 0)
        self.assertIsNone(holder.poll())

    def test_y15_no_locks_to_be_had(self):
        case = Case("lock")
        ended = case.inject("flock:error=ENOLCK")
        self.refuses(case, ended, r"/out/\.lock: No locks available")


if __name__ == "__main__":
    main("__main__")
