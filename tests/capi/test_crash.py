#!/usr/bin/env python3
"""bindings/c-examples/obtain.c killed at any moment and started again, beside Pebble: one account, one
order, one certificate, no file torn, nothing left behind.

CRASHES multiplies the kills at each of the catalogue's twenty steps; `make soak` sets it to 100.
"""

import os
import re
import signal
import time
import unittest

from obtaining import Case, about_files, all_at_once, main, pebble_log, usual_calls

CRASHES = int(os.environ.get("CRASHES", "5"))


def steps():
    """The system call that comes after each of the twenty steps of the catalogue."""
    calls = usual_calls()

    def following(number, name, text="", nth=1):
        """The call after the nth one like this."""
        found = [n for n, call in enumerate(calls) if call.name == name and text in call.text]
        return number, calls[found[nth - 1] + 1]

    sent = [n for n, call in enumerate(calls) if call.name == "sendto"]
    # Two of TLS, the directory, a nonce; then two for each POST: its head and its body.
    account, order, _, challenge, look, finalize, _, certificate = range(5, 21, 2)
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
        (11, calls[sent[look] + 3]),
        following(12, "unlinkat", "/acme-challenge", 2),
        (13, calls[sent[finalize] - 1]),
        (14, calls[sent[finalize] + 1]),
        (15, calls[sent[certificate] - 1]),
        (16, calls[sent[certificate] + 3]),
        following(17, "openat", "tmp-", 7),
        following(18, "renameat", '.chain.pem"'),
        (19, next(c for c in calls if c.name == "unlinkat" and '.order"' in c.text)),
        following(20, "unlinkat", '.order"'),
    ]


def between_order_and_note():
    """The calls at which the CA has made the order, and its URL is not on disk yet."""
    calls = usual_calls()
    sent = [n for n, call in enumerate(calls) if call.name == "sendto"]
    noted = [n for n, c in enumerate(calls) if c.name == "renameat" and '.order"' in c.text]
    return {(call.name, call.nth) for call in calls[sent[6] : noted[1] + 1]}


def is_last(call):
    """Whether it comes after the journal has gone."""
    calls = usual_calls()
    gone = [n for n, c in enumerate(calls) if c.name == "unlinkat" and '.order"' in c.text]
    return (call.name, call.nth) in {(call.name, call.nth) for call in calls[gone[0] + 1 :]}


def is_well(case):
    """Whether what there is after a crash and another run is as it has to be; else, what is not."""
    try:
        assert case.is_a_pair(), "the key is another certificate's"
        assert case.files() == case.all_files(), case.files()
        assert case.published() == [], "a challenge was left behind"
        assert case.certificates() == 1, "it has more than one certificate"
    except (AssertionError, OSError) as error:
        return f"{case.name}: {error}"
    return None


def crash(call):
    """A run that is killed at a call, and another; what is wrong then, how many orders it took, and
    whether it was killed."""
    case = Case("crash")
    was_killed = case.kill(call)
    torn = case.torn()
    keys = {path.name: path.read_text() for path in case.out.glob("*.pem")}
    wrong = [f"at {call}: torn: {torn}"] if torn else []
    # Killed when it had nothing left to do; to run it again would be to renew.
    is_done = case.path(".chain.pem").exists() and not case.path(".order").exists()
    if is_done != is_last(call):
        wrong.append(f"at {call}: the journal is {'not ' if is_done else ''}there")
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
    return wrong, len(case.orders()), was_killed


class Crash(unittest.TestCase):
    def assert_survives(self, calls):
        window = between_order_and_note()
        accounts = accounts_at_the_ca()
        results = all_at_once(crash, calls)
        self.assertEqual([what for wrong, _, _ in results for what in wrong], [])
        # A call or two may fall away when the CA's bytes come in fewer pieces.
        killed = sum(was_killed for _, _, was_killed in results)
        self.assertGreaterEqual(killed, len(calls) * 0.95)
        more = [
            (call, orders)
            for call, (_, orders, _) in zip(calls, results)
            if orders != 1 and not (orders == 2 and (call.name, call.nth) in window)
        ]
        self.assertEqual(more, [], "orders")
        self.assertEqual(accounts_at_the_ca() - accounts, len(calls))

    def test_x01_x03_x04_x05_killed_at_each_of_the_twenty_steps(self):
        found = steps()
        self.assertEqual([number for number, _ in found], list(range(1, 21)))
        self.assert_survives([call for _, call in found] * CRASHES)

    def test_x02_x06_w09_killed_at_every_system_call_of_the_store(self):
        calls = about_files(usual_calls())
        self.assertGreater(len(calls), 80)
        self.assert_survives(calls)


def accounts_at_the_ca():
    return max(map(int, re.findall(r"There are now (\d+) accounts", pebble_log())), default=0)


if __name__ == "__main__":
    main("__main__")
