#!/usr/bin/env python3
"""docs/guides/migrating-from-0.14.md."""

from __future__ import annotations

import os

from case import DnsCase
from pages import DIRECTORY, changed, main, run, shows


class From014(DnsCase):
    @shows("migrating-from-0.14 rust errors")
    def test_errors(self, text):
        main = 'fn main() { register("mailto:you@shop.test").unwrap(); register("tel:1").unwrap(); }'
        out = run(self.program_rust(changed(text + main))).splitlines()
        self.assertRegex(out[0], r"^\d+$")
        self.assertRegex(out[1], "^until it changes: ")

    @shows("migrating-from-0.14 rust engine")
    def test_engine(self, text):
        main = """
fn record(verb: &str, name: &str, value: &str) -> Result<(), String> {
    let ended = std::process::Command::new("dns-record").args([verb, name, value]).status();
    ended.map_err(|e| e.to_string())?.success().then_some(()).ok_or("no".to_owned())
}
fn main() {
    // As 0.14 wrote it.
    let pem = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let (add, remove) = (|n: &str, v: &str| record("add", n, v), |n: &str, v: &str| {
        record("remove", n, v).unwrap()
    });
    wildcard("DIRECTORY", &pem, add, remove).unwrap();
}
""".replace("DIRECTORY", DIRECTORY)
        account = self.folder / "account.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", account)
        program = self.program_rust(changed(text + main, **{"example.org": "engine.from.test"}))
        out = run(program, account, env={**os.environ, **self.tools})
        self.assertIn("BEGIN CERTIFICATE", out)
        self.assertEqual(self.taken_down(), ["_acme-challenge.engine.from.test"] * 2)


if __name__ == "__main__":
    main("migrating-from-0.14")
