#!/usr/bin/env python3
"""bindings/c-examples/obtain.c is killed at any moment and started again, beside Pebble. The result is one
account, one order, one certificate, no incomplete file, and no leftover file.

CRASHES multiplies the kills at each of the catalogue's twenty steps; `make soak` sets it to 100.
"""

import os
import re
import unittest

from obtaining import CHALLENGES, Case, all_at_once, is_well, main, pebble_log, usual_calls

CRASHES = int(os.environ.get("CRASHES", "5"))


def steps():
    """Returns the first system call after each of the twenty steps of the catalogue."""
    calls = usual_calls()

    def following(number, name, text="", nth=1):
        """Returns the call after the nth call with this name and text."""
        found = [n for n, call in enumerate(calls) if call.name == name and text in call.text]
        return number, calls[found[nth - 1] + 1]

    sent = [n for n, call in enumerate(calls) if call.name == "sendto"]
    # The first writes are two of TLS, the directory, a nonce; then each POST has one.
    account, order, _, challenge, look, finalize, _, certificate = range(4, 12)
    return [
        following(1, "flock"),
        following(2, "renameat", ".key.pem"),
        (3, calls[sent[account] + 1]),
        following(4, "renameat", '"account.url"'),
        following(5, "renameat", '.order"'),
        (6, calls[sent[order] + 1]),
        following(7, "renameat", '.order"', 2),
        following(8, "renameat", '.order"', 3),
        following(9, "write", "/acme-challenge/"),
        (10, calls[sent[challenge] + 1]),
        (11, calls[sent[look] + 2]),
        following(12, "unlinkat", "/acme-challenge", 2),
        (13, calls[sent[finalize] - 1]),
        (14, calls[sent[finalize] + 1]),
        (15, calls[sent[certificate] - 1]),
        (16, calls[sent[certificate] + 2]),
        following(17, "openat", "tmp-", 10),
        following(18, "renameat", '.chain.pem"'),
        (19, next(c for c in calls if c.name == "unlinkat" and '.order"' in c.text)),
        following(20, "unlinkat", '.order"'),
    ]


def between_order_and_note():
    """Returns the calls between the creation of the order at the CA and the storage of its URL."""
    calls = usual_calls()
    sent = [n for n, call in enumerate(calls) if call.name == "sendto"]
    noted = [n for n, c in enumerate(calls) if c.name == "renameat" and '.order"' in c.text]
    window = calls[sent[5] : noted[1] + 1]
    # A response may arrive in more pieces; then the nth call on the connection comes earlier.
    window += [c for c in calls[noted[1] : sent[6] + 1] if "socket:" in c.text]
    return {(call.name, call.nth) for call in window}


def is_last(call):
    """Whether the call comes after the removal of the journal."""
    calls = usual_calls()
    gone = [n for n, c in enumerate(calls) if c.name == "unlinkat" and '.order"' in c.text]
    return (call.name, call.nth) in {(call.name, call.nth) for call in calls[gone[0] + 1 :]}


def crash(call):
    """Kills a run at a call, and runs again. Returns what is wrong then, the number of orders, whether the
    first run noted its order, and whether it was killed."""
    case = Case("crash")
    was_killed = case.kill(call)
    knew_order = case.path(".order").exists() and "\norder " in case.text(".order")
    torn = case.torn()
    keys = {path.name: path.read_text() for path in case.out.glob("*.pem")}
    wrong = [f"at {call}: torn: {torn}"] if torn else []
    # The run was killed when it had nothing left to do; another run would renew the certificate.
    is_done = case.path(".chain.pem").exists() and not case.path(".order").exists()
    # (If there is one request more than usual, the nth call of a kind comes earlier.)
    if is_done and not is_last(call):
        wrong.append(f"at {call}: the journal is gone")
    again = None if is_done else case.run()
    if again and (again.returncode != 0 or again.stderr):
        wrong.append(f"at {call}: {again.returncode} {again.stderr}")
    else:
        ill = is_well(case)
        wrong += [f"at {call}: {ill}"] if ill else []
    wrong += [
        f"at {call}: {name} is lost"
        for name, text in keys.items()
        if "chain" not in name and (case.out / name).read_text() != text
    ]
    return wrong, len(case.orders()), knew_order, was_killed


def killed_at(step):
    """Returns a case whose first run was killed after this step."""
    case = Case("killed")
    assert case.kill(dict(steps())[step])
    return case


class Crash(unittest.TestCase):
    def assert_survives(self, calls):
        window = between_order_and_note()
        accounts = accounts_at_the_ca()
        results = all_at_once(crash, calls)
        self.assertEqual([what for wrong, _, _, _ in results for what in wrong], [])
        # A call or two may be missing if the CA's bytes arrive in fewer pieces.
        killed = sum(was_killed for _, _, _, was_killed in results)
        self.assertGreaterEqual(killed, len(calls) * 0.95)
        more = [
            (call, orders)
            for call, (_, orders, knew_order, _) in zip(calls, results)
            if orders != 1
            and not (orders == 2 and not knew_order and (call.name, call.nth) in window)
        ]
        self.assertEqual(more, [], "orders")
        self.assertEqual(accounts_at_the_ca() - accounts, len(calls))

    def test_x01_x03_x04_x05_killed_at_each_of_the_twenty_steps(self):
        found = steps()
        self.assertEqual([number for number, _ in found], list(range(1, 21)))
        self.assert_survives([call for _, call in found] * CRASHES)

    def test_x02_x06_w09_killed_at_every_system_call(self):
        calls = usual_calls()
        self.assertGreater(len(calls), 250)
        self.assert_survives(calls)

    def test_x07_what_is_sent_is_said_after_what_it_needs_is_on_disk(self):
        # After a power failure, only synchronized files exist. When a request is sent, no other files exist, so a
        # power failure leaves the same files as a kill, which another test covers.
        synchronized, waiting, on_disk, at_sends = set(), [], set(), []
        for call in Case("power").trace():
            files = re.findall(r'"([^"]*)"|\d+<[^>]*/out/([^>]*)>', call.text)
            name = "".join(files[0]) if files else ""
            if call.name == "write" and "/out/" in call.text:
                synchronized.discard(name)
            elif call.name == "fsync" and "/out/" in call.text:
                synchronized.add(name)
            elif call.name == "renameat":
                self.assertIn(name, synchronized, call)
                waiting.append(files[1][0])
            elif call.name == "unlinkat" and "/out>" in call.text and "tmp-" not in call.text:
                waiting.append(name)
            elif call.name == "fsync" and "/out>" in call.text:
                on_disk.update(waiting)
                waiting = []
            elif call.name == "sendto":
                self.assertEqual(waiting, [], call)
                at_sends.append(len(on_disk))
        self.assertEqual(waiting, [])
        # Two keys and the journal are on disk before the first request; the URLs of the account and of the
        # directory, before the order.
        self.assertEqual(at_sends[:5], [3] * 5)
        self.assertGreaterEqual(len(at_sends), 12)
        self.assertEqual(set(at_sends[5:]), {5})

    def test_x08_journals_that_are_of_no_use(self):
        def damage(case, how):
            journal = case.path(".order")
            text = journal.read_text()
            if how == "other user":
                os.chown(journal, 65534, 65534)
            elif how == "huge":
                os.truncate(journal, 1 << 30)
            else:
                journal.write_bytes({
                    "empty": b"",
                    "truncated": text[: text.index("name")].encode(),
                    "cut": text[:-1].encode(),
                    "garbage": bytes(range(256)) * 10,
                    "other CA": text.replace("directory https", "directory http").encode(),
                    "other account": re.sub("account .*", "account x", text).encode(),
                }[how])  # fmt: skip

        def survive(how):
            case = killed_at(7)
            damage(case, how)
            ended = case.run()
            is_aside = (case.out / f"{case.name}.order.bad").exists()
            told = ("renamed to end in .bad" if is_aside else "its order is not resumed") in ended.stderr
            return how, ended.returncode, told, is_aside, case.certificates()

        kinds = {"empty": True, "garbage": True, "huge": True, "truncated": False, "cut": False}
        kinds.update({"other CA": False, "other account": False})
        kinds.update({"other user": True} if os.geteuid() == 0 else {})
        self.assertEqual(
            all_at_once(survive, kinds), [(how, 0, True, aside, 1) for how, aside in kinds.items()]
        )

    def test_x08_a_journal_of_a_newer_version(self):
        case = killed_at(7)
        journal = case.path(".order")
        text = journal.read_text().replace("acme-order 1\n", "acme-order 2\n")
        journal.write_text(text)
        ended = case.run()
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"{case.name}: a newer version of this library wrote its order", ended.stderr)
        self.assertEqual(journal.read_text(), text)
        self.assertEqual(len(case.orders()), 1)

    def test_x09_a_certificate_that_is_lost(self):
        case = killed_at(19)
        case.path(".chain.pem").unlink()
        self.assertEqual(case.run().returncode, 0)  # this run still finds the journal
        self.assertEqual((is_well(case), case.certificates()), (None, 1))
        case.path(".chain.pem").unlink()
        self.assertEqual(case.run().returncode, 0)
        self.assertTrue(case.is_a_pair())
        self.assertEqual(case.certificates(), 2)

    def test_x05_what_pythons_store_left_published_is_taken_down(self):
        # An older program wrote only the token.
        case = killed_at(10)
        journal, (token,) = case.path(".order"), case.published()
        left = case.webroot / CHALLENGES / "LEFT-by_a-run_of_Python"
        left.write_text("")
        text = journal.read_text()
        line = f"published {token} http-01 {case.name}\n"
        self.assertIn(f"\n{line}", text)
        text = text.replace(line, f"published {token}\n")
        journal.write_text(f"{text}published {left.name} http-01 {case.name}\n")
        ended = case.run()
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual((is_well(case), len(case.orders())), (None, 1))

    def test_x10_w16_an_order_that_was_finished_long_ago(self):
        case = killed_at(15)
        for path, when in zip(case.out.iterdir(), [0, 10**9, 4 * 10**9, 2 * 10**9]):
            os.utime(path, (when, when))
        self.assertEqual(case.run().returncode, 0)
        self.assertEqual((is_well(case), len(case.orders())), (None, 1))

    def test_x10_a_journal_that_was_left_behind_months_ago(self):
        # For the library it is 89 days later, so the order's certificate is about to expire. OpenSSL still has the
        # real time, so the certificate of the CA's HTTPS is still valid.
        case = killed_at(19)
        months_later = case.preload(
            "#include <dlfcn.h>\n#include <string.h>\n"
            "int clock_gettime(clockid_t clock, struct timespec *t) { Dl_info caller;\n"
            "int failed = syscall(SYS_clock_gettime, clock, t);\n"
            "if (clock == CLOCK_REALTIME && dladdr(__builtin_return_address(0), &caller) &&\n"
            "strstr(caller.dli_fname, \"libacme-micro\")) t->tv_sec += 89 * 86400;\nreturn failed; }\n"
        )
        self.assertEqual(case.run(months_later).returncode, 0)
        self.assertEqual((case.files(), case.certificates()), (case.all_files(), 2))

    def test_x11_orders_that_lead_nowhere(self):
        case = killed_at(7)
        url = re.search("order (https.*)", case.text(".order"))[1]
        case.client().abandon_order(url)  # the order becomes invalid, like an expired one
        self.assertEqual(case.run().returncode, 0)
        self.assertIsNone(is_well(case))
        self.assertNotIn(url.rpartition("/")[2], case.orders())  # the CA lists no invalid orders

        case = killed_at(7)
        journal = case.path(".order")
        journal.write_text(re.sub("(order https.*/).*", r"\1gone", journal.read_text()))
        self.assertEqual(case.run().returncode, 0)
        self.assertEqual((is_well(case), len(case.orders())), (None, 2))

    def test_x12_a_snapshot_is_started_twice(self):
        case = killed_at(7)
        snapshot = case.snapshot()
        self.assertEqual(case.run().returncode, 0)
        chain = case.text(".chain.pem")
        case.restore(snapshot)
        self.assertEqual(case.run().returncode, 0)
        self.assertEqual(case.text(".chain.pem"), chain)
        self.assertEqual((is_well(case), len(case.orders())), (None, 1))

        case.restore(snapshot)  # the order was finalized with a key that is now missing
        case.path(".key.pem").unlink()
        self.assertEqual(case.run().returncode, 0)
        self.assertTrue(case.is_a_pair())
        self.assertEqual((len(case.orders()), case.certificates()), (2, 2))

    def test_x13_a_name_is_added_between_crash_and_resumption(self):
        case = killed_at(7)
        # One webroot serves both names.
        (case.root / f"www.{case.name}").symlink_to(case.folder)
        ended = case.run(names=[case.name, f"www.{case.name}"])
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("its order is not resumed", ended.stderr)
        self.assertEqual((len(case.orders()), case.certificates()), (2, 1))

    def test_x14_an_order_that_no_run_survives(self):
        case = Case("poison")
        for _ in range(10):
            # The run is killed when it starts its web server for the CA.
            ended = case.inject("bind:signal=KILL:when=1", port="1")
            self.assertIn(ended.returncode, (-9, 137), ended.stderr)
        self.assertEqual(len(case.orders()), 4)
        ended = case.run()
        self.assertEqual(ended.returncode, 0)
        self.assertEqual((is_well(case), len(case.orders())), (None, 4))


def accounts_at_the_ca():
    return max(map(int, re.findall(r"There are now (\d+) accounts", pebble_log())), default=0)


if __name__ == "__main__":
    main("__main__")
