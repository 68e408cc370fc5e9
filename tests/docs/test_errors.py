#!/usr/bin/env python3
"""docs/guides/errors.md has every status and every problem type, with the library's behaviour."""

from __future__ import annotations

import re
import unittest

from pages import ROOT, main


class Errors(unittest.TestCase):
    PAGE = (ROOT / "docs/guides/errors.md").read_text()

    def test_each_status(self):
        header = (ROOT / "include/acme_micro.h").read_text()
        statuses = re.findall(r"^  (ACME_(?:OK|ERR_\w+)) = -?\d+,$", header, re.M)
        self.assertGreater(len(statuses), 20)
        self.assertEqual(re.findall(r"^### (ACME_\w+)$", self.PAGE, re.M), statuses)

    def test_each_status_in_python_and_rust(self):
        errors = (ROOT / "bindings/python/src/acme_micro/errors.py").read_text()
        kinds = (ROOT / "src/ffi/status.rs").read_text()
        sections = re.findall(r"^### (ACME_ERR_(\w+))\n\n(.*?)\n\n", self.PAGE, re.M | re.S)
        self.assertEqual(len(sections), 23)
        source = (ROOT / "src/error.rs").read_text()
        source = source[source.index("pub fn is_permanent") :]
        yes, depends, no = re.split(r"=> true|=> \{", source)[:3]
        permanence = {
            kind: says
            for text, says in ((yes, "Permanent."), (depends, "It depends."), (no, "Not permanent."))
            for kind in re.findall(r"ErrorKind::\w+", text)
        }
        for status, name, text in sections:
            python = re.search(rf"Status\.ERR_{name}: (\w+),", errors)
            rust = re.search(rf"{status},\s+Some\((ErrorKind::\w+)\)", kinds)
            with self.subTest(status):
                self.assertIn(f"`{python[1] if python else 'AcmeError'}`", text)
                self.assertIn(f"`{rust[1]}`", text)
                self.assertEqual(text.split(". ")[-1], permanence[rust[1]])

    def test_each_problem_type(self):
        """The page agrees with src/problem.rs."""
        source = (ROOT / "src/problem.rs").read_text()
        body = source[source.index("fn is_permanent(") : source.index("fn is_permanent_status")]
        temporary, parts, permanent = re.split(r"=> false|=> self\.subproblems", body)
        named = lambda text: set(re.findall(r'"(\w+)"', text))
        listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", self.PAGE, re.M))
        self.assertEqual({n for n, how in listed.items() if how == "no"}, named(temporary))
        self.assertEqual({n for n, how in listed.items() if how == "yes"}, named(permanent))
        # RFC 8555 section 6.7, RFC 9773 section 7.4.
        for name in (
            "accountDoesNotExist alreadyRevoked badCSR badNonce badPublicKey badRevocationReason"
            " badSignatureAlgorithm caa compound connection dns externalAccountRequired"
            " incorrectResponse invalidContact malformed orderNotReady rateLimited"
            " rejectedIdentifier serverInternal tls unauthorized unsupportedContact"
            " unsupportedIdentifier userActionRequired alreadyReplaced"
        ).split():
            self.assertIn(name, listed)


if __name__ == "__main__":
    main("errors")
